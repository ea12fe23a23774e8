"""The cheapest mix of node types for what is still wanted once existing nodes are full: column generation over fills of one node.

`problem` is what is asked, `fill` makes fills of one node (columns), `master` chooses how often to use each by a linear program (`lp`), `bound` says
what no mix can be cheaper than, `solve` puts them together within a budget in steps. Knows nothing of drafts, reports or time.
"""
