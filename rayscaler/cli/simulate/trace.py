"""The trace: work that comes and ends, a row of a CSV file each. Every problem is told at once.

Owns both formats: the generic one, and the columns of the openb trace (Alibaba's cluster-trace-gpu-v2023). Packed files (.gz) are read too.

- Generic: `arrival_s` and `duration_s` in seconds; `count` of equal tasks that come together, 1 where the column or the cell is empty; `name`, which
  means nothing; `label:KEY` with a wish as in demand files (`a100`, `!a100`, `in(a100, h100)`); every other column is a resource by its name in Ray,
  amounts as in definitions (2, 0.5, memory 16Gi).
- openb: `cpu_milli`, `memory_mib`, `num_gpu`, `gpu_milli` (of each GPU), `gpu_spec` (models with `|` between, a wish of the label `accelerator`), `creation_time`,
  `scheduled_time`, `deletion_time`. It runs from scheduled to deleted; what was never scheduled, as long as it existed.
"""

import csv
import gzip
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rayscaler.config import demandfile, quantity, shown
from rayscaler.config.reader import near
from rayscaler.errors import InvalidRequest, Problem
from rayscaler.model.demand import Bundle, LabelCondition, LabelSelector, Operator
from rayscaler.model.resources import UNIT, Resources

OPENB = frozenset({"cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "creation_time", "deletion_time", "scheduled_time"})
"""Columns by which an openb trace is known."""
OPENB_LABEL = "accelerator"
REQUIRED = ("arrival_s", "duration_s")
LABEL = "label:"
MOST_PROBLEMS = 100
"""Told of one file; the rest is a number: a wrong unit in a column would be as many as there are rows."""
MOST_COUNT = 1_000_000
MOST_S = 1e10
"""Three hundred years: more are not seconds."""
MEBI = 1 << 20
_WHOLE = re.compile("[0-9]{1,9}")
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Arrival:
    """`count` equal tasks that come at second `at` and run for `duration_s` each, once started."""

    at: float
    duration_s: float
    count: int
    bundle: Bundle


def from_file(path: Path) -> tuple[Arrival, ...]:
    """Return the trace in a file by its time; raises InvalidRequest naming the file and every problem."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if content.startswith(GZIP) else content).decode("utf-8-sig")
        return arrivals(text)
    except OSError as error:  # also what is no gzip after all
        problems: tuple[Problem, ...] = (Problem("", "", f"cannot be read: {error.strerror or error}"),)
    except (ValueError, EOFError) as error:  # not UTF-8, or cut off
        problems = (Problem("", "", f"cannot be read as text: {error}"),)
    except InvalidRequest as error:
        problems = error.problems
    raise InvalidRequest(*(each.inside(str(path)) for each in problems))


def arrivals(text: str) -> tuple[Arrival, ...]:
    """Return the trace in a text by its time; raises InvalidRequest with every problem."""
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    problems: list[Problem] = []
    found: list[Arrival] = []
    try:
        header = [name.strip() for name in next(table, [])]
        problems += _of_header(header)
        if not problems:
            read = _openb if set(header) >= OPENB else _generic
            for cells in table:
                if any(cells):
                    row = _Row(f"line {table.line_num}", header, cells, problems)
                    found += read(row)
    except csv.Error as error:
        problems.append(Problem(f"line {table.line_num}", "", f"is no CSV: {error}"))
    if not problems and not found:
        problems.append(Problem("", "", "has no row: nothing to simulate"))
    if problems:
        more = len(problems) - MOST_PROBLEMS
        raise InvalidRequest(*problems[:MOST_PROBLEMS], *([Problem("", "", f"and {more} more problems")] if more > 0 else []))
    return tuple(sorted(found, key=lambda each: each.at))


def _of_header(header: list[str]) -> Iterator[Problem]:
    where = "line 1"
    if "creation_time" in header and "arrival_s" not in header and not set(header) >= OPENB:
        yield Problem(
            where, "", f"an openb trace has the columns {', '.join(sorted(OPENB))}; missing: {', '.join(sorted(OPENB - set(header)))}"
        )
        return
    for name in REQUIRED if not set(header) >= OPENB else ():
        if name not in header:
            yield Problem(where, "", f"has no column {name}; {near(name, header)}")
    for index, name in enumerate(header, 1):
        if not name:
            yield Problem(where, "", f"column {index} has no name")
        elif name in header[: index - 1]:
            yield Problem(where, shown.value(name), "is a column twice")


class _Row:
    """One row; what is wrong in it is noted, and reads as nothing."""

    def __init__(self, where: str, header: list[str], cells: list[str], problems: list[Problem]) -> None:
        self.where, self.header, self.problems = where, header, problems
        if len(cells) != len(header):
            problems.append(Problem(where, "", f"has {len(cells)} cells, and the first line {len(header)} columns"))
        self.cells: Mapping[str, str] = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}

    def problem(self, column: str, rule: str) -> None:
        """Note what is wrong with a cell."""
        self.problems.append(Problem(f"{self.where}, {column}", shown.value(self.cells.get(column, "")), rule))

    def seconds(self, column: str, default: float | None = None) -> float:
        """Return seconds; an empty cell is `default`."""
        text = self.cells.get(column, "")
        if not text and default is not None:
            return default
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not 0 <= found <= MOST_S:  # nor nan
            self.problem(column, f"must be seconds, from 0 to {MOST_S:.0f}")
            return 0.0
        return found

    def whole(self, column: str, low: int, most: int, default: int | None = None) -> int:
        """Return a whole number within bounds; an empty cell is `default`."""
        text = self.cells.get(column, "")
        if not text and default is not None:
            return default
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= most:
            self.problem(column, f"must be a whole number from {low} to {most}")
            return low
        return int(text)


def _generic(row: _Row) -> Iterable[Arrival]:
    amounts: dict[str, int] = {}
    wishes: list[LabelCondition] = []
    for column, text in row.cells.items():
        if not text or column in {*REQUIRED, "count", "name"}:
            continue
        try:
            if column.startswith(LABEL):
                wishes.append(demandfile.condition(column.removeprefix(LABEL), text))
            else:
                amounts[column] = quantity.amount(column, text)
        except ValueError as error:
            row.problem(column, str(error))
    selectors = (LabelSelector(tuple(sorted(wishes))),) if wishes else ()
    count = row.whole("count", 1, MOST_COUNT, default=1)
    yield Arrival(row.seconds("arrival_s"), row.seconds("duration_s"), count, Bundle(Resources(amounts), selectors))


def _openb(row: _Row) -> Iterable[Arrival]:
    begun, ended = row.seconds("creation_time"), row.seconds("deletion_time")
    started = row.seconds("scheduled_time", begun)
    if ended < started:
        row.problem("deletion_time", "must not be before it was scheduled")
    gpus = row.whole("num_gpu", 0, 1000) * row.whole("gpu_milli", 0, 1000)
    amounts = {
        "CPU": row.whole("cpu_milli", 0, MOST_COUNT * 100) * UNIT // 1000,
        "memory": row.whole("memory_mib", 0, MOST_COUNT * 100) * MEBI * UNIT,
        "GPU": gpus * UNIT // 1000,
    }
    models = tuple(sorted(filter(None, row.cells.get("gpu_spec", "").split("|"))))
    wish = (LabelSelector((LabelCondition(OPENB_LABEL, Operator.IN, models),)),) if models else ()
    yield Arrival(begun, max(0.0, ended - started), 1, Bundle(Resources(amounts), wish))
