"""Plugins that are right but for one thing, and who has to notice it: the conformance suite is tested by them.

Each is a small change of an honest servicer over fake machines, beside the row with the name of every check that fails of it, and why more
than one does. The files are called as those of the checks.
"""

from tests.plugin.mutants import ending, identity, launching, limits, listing, watching
from tests.plugin.mutants.honest import SLOW_S, Mutant, Row
from tests.plugin.mutants.served import Served, served

ROWS: tuple[Row, ...] = (*identity.ROWS, *launching.ROWS, *ending.ROWS, *listing.ROWS, *watching.ROWS, *limits.ROWS)

__all__ = ["ROWS", "SLOW_S", "Mutant", "Row", "Served", "served"]
