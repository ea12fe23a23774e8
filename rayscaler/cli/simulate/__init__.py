"""`rayscaler simulate`: a trace of work, replayed in virtual time through the real planner. Needs no cluster and does nothing.

- `trace` reads the file, `nodes` starts work on nodes as Ray would, `engine` lets time pass, `outcome` reckons what it came to.
- The planner sees what Ray would report and no more: of devices, for instance, only the sum that is free.
- Same trace, same definition, same answer: nothing is drawn by lot, and no clock is read but to tell how long planning took.
- What is assumed of the world, such as how long a node takes to start, is said beside every answer.
"""
