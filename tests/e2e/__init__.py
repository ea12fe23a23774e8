"""A real node for real pods: what it is made of, how a test uses it. See tests/e2e_tier.py for the fixtures."""
