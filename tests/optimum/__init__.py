"""What the best plan can be, reckoned without the planner: a contract in pyproject.toml says that nothing here imports it."""
