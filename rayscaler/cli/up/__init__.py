"""`rayscaler up` and `rayscaler down`: a head, its monitor and the service on this machine, as one thing."""
