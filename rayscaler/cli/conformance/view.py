"""How a run shows itself: a line for each check as it ends, what runs now at a terminal, and a table in the end."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from rayscaler.model.words import counted
from rayscaler.plugin.conformance.check import Check, Outcome, Result

STYLE = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.SKIPPED: "yellow"}


class View:
    """Shows a run on stderr, or on stdout where nothing else is printed there."""

    def __init__(self, count: int, *, on_stderr: bool) -> None:
        self._console = Console(stderr=on_stderr, highlight=False)
        self._count = count
        self._done = 0
        self._status: Status | None = None

    def tell(self, check: Check, result: Result | None) -> None:
        """Show that a check begins, or what came of it."""
        if result is None:
            self._begin(check)
            return
        self.close()
        self._done += 1
        line = Text.assemble(
            (f"{self._done:3}/{self._count} ", "dim"),
            (f"{result.outcome.value:8}", STYLE[result.outcome]),
            f"{check.name} ",
            (" ".join(check.rules), "cyan"),
            (f" {result.took_s:.1f} s" if result.took_s >= 1 else "", "dim"),
        )
        if result.outcome is Outcome.FAILED:
            line.append(f"\n        {told(result)}", "red")
        self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Show no more what runs now."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def summary(self, results: Sequence[Result], left: Sequence[str], most_alive: int) -> None:
        """Show what was not kept, what was not checked, and the counts."""
        table = Table(title="what was not kept, and what was not checked", title_justify="left")
        for head in ("check", "rules", "why"):
            table.add_column(head, overflow="fold")
        for each in results:
            if each.outcome is not Outcome.PASSED:
                table.add_row(Text(each.check.name, STYLE[each.outcome]), " ".join(each.check.rules), Text(told(each)))
        if table.row_count:
            self._console.print(table)
        counts = Counter(each.outcome for each in results)
        text = ", ".join(f"{counts[each]} {each.value}" for each in Outcome)
        kept = {rule for each in results if each.outcome is Outcome.PASSED for rule in each.check.rules}
        self._console.print(
            f"{counted(len(results), 'check')}: {text}; {counted(len(kept), 'rule')} seen kept; at most {counted(most_alive, 'instance')} at once",
            style="bold red" if counts[Outcome.FAILED] or left else "bold green",
            soft_wrap=True,
        )
        if left:
            self._console.print(f"NOT ENDED, end them by hand: {', '.join(left)}", style="bold red", soft_wrap=True)

    def _begin(self, check: Check) -> None:
        if self._console.is_terminal:
            self._status = self._console.status(f"{check.name}: {check.sentence}")
            self._status.start()


def told(result: Result) -> str:
    """Return what came of a check, with the rule that is not kept."""
    return f"{result.rule}: {result.detail}" if result.rule else result.detail


def rules(checks: Sequence[Check], unseen: dict[str, str]) -> None:
    """Print every check with its rules, then the rules that none can check."""
    console = Console(highlight=False)
    for each in checks:
        needs = f" ({each.want.value})" if each.want else ""
        console.print(
            Text.assemble((f"{' '.join(each.rules):10}", "cyan"), f"{each.name}: {each.sentence}", (needs, "dim")), soft_wrap=True
        )
    console.print("\nwhat no check can see:")
    for rule, reason in unseen.items():
        console.print(Text.assemble((f"{rule:10}", "cyan"), reason), soft_wrap=True)
