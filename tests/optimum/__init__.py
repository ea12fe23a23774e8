"""What the best plan can be, reckoned without the planner: nothing here imports `rayscaler.planner` (tests/optimum/test_apart.py)."""
