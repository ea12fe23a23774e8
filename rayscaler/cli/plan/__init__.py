"""`rayscaler plan`: what would be launched and ended for a demand, and why; no service, no head, nothing done."""
