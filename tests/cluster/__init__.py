"""A real Kubernetes without machines: what it is made of, how a test uses it. See tests/cluster_tier.py for the fixtures."""
