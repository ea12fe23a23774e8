"""`rayscaler demo`: a whole life on this machine, each step seen from outside rayscaler."""
