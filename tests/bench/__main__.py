"""python -m tests.bench [case ...] [--pairs N] [--samples N] [--seed S]: one JSON line per case on standard output.

Exit code 0: all targets met; 1: one was missed; 2: an anchor did not run in this run (a figure of another day is none).
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

from tests.bench import plan_cases, planning
from tests.bench.result import NO_ANCHOR, Options, Result, say

LOCAL = {
    "report-to-launch": "tests.bench.report_to_launch",
    "plan": "tests.bench.plan",
    "first-task": "tests.bench.first_task",
    "head-loss": "tests.bench.head_loss",
    "plugin-launch": "tests.bench.plugin_launch",
    "plugin-thousand": "tests.bench.plugin_thousand",
}
"""What one machine is enough for."""
KUBERNETES = {
    "k8s-pods": "tests.bench.k8s_pods",
    "k8s-clusters": "tests.bench.k8s_clusters",
    "k8s-task": "tests.bench.k8s_task",
}
"""On a real API server with simulated nodes."""
PLAN = {f"{planning.PREFIX}{name}": "tests.bench.planning" for name in plan_cases.CASES}
"""Planning alone, on big input."""
SERVICE = {"plan-service": "tests.bench.plan_service"}
"""The same in the whole service: no bars of the chart."""
CHART = Path("build/bench-plan.png")
CASES = {**LOCAL, **KUBERNETES, **PLAN, **SERVICE}


def main() -> int:
    """Run the cases asked for, all if none is named."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="case", help=f"any of: {', '.join(CASES)} (default: {', '.join(LOCAL)})")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--k8s", action="store_true", help=f"by default run {', '.join(KUBERNETES)}")
    group.add_argument("--plan", action="store_true", help=f"by default run {', '.join([*PLAN, *SERVICE])}")
    parser.add_argument(
        "--pairs",
        type=int,
        help="interleaved pairs of first-task (default 10), of plugin-thousand (default 9); runs of head-loss's anchor (default 2)",
    )
    parser.add_argument("--samples", type=int, help="samples of our side in the other cases")
    parser.add_argument(
        "--chart", type=Path, default=CHART, metavar="PNG", help=f"where the chart of the plan cases goes (default {CHART})"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the made-up nodes and demands (default 1)")
    given = parser.parse_args()
    unknown = [name for name in given.cases if name not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; there are: {', '.join(CASES)}")
    codes, lines = [], []
    for name in given.cases or (KUBERNETES if given.k8s else [*PLAN, *SERVICE] if given.plan else LOCAL):
        say(f"== {name}")
        result: Result = importlib.import_module(CASES[name]).run(Options(given.pairs, given.samples, given.seed, name))
        print(line := result.line(), flush=True)
        codes.append(result.exit_code)
        lines += [json.loads(line)] if name in PLAN else []
    if lines:
        from tests.bench import plan_chart

        plan_chart.draw(lines, given.chart)
        say(f"the chart is in {given.chart}")
    return NO_ANCHOR if NO_ANCHOR in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
