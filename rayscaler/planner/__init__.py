"""Decides, and does nothing else: facts in (`ClusterState`), a `Plan` out. Imports the model only.

The laws, each held by a property in `tests/properties`:

- Same state, same plan. No clock, no ids, no logging; inputs are sorted at the door, ties end at the name, amounts are integers.
- Equal bundles stay one shape with a count: time and memory go with shapes and nodes, not with tasks.
- Each demand is placed, launched for, or refused with a reason; the counts add up.
- Maxima are never passed by a launch. What must go is drained, never killed.
- Gangs are all or none, and lie as their strategy says.
- Fixed point: carry the plan out, plan again, and there is nothing to do; again after the launches have joined.
- What a minimum, a constraint or an expectation needs is not drained.
"""
