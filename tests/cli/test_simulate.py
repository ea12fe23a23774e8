"""`rayscaler simulate`: a trace in, cost, waiting, utilisation and churn out; against an answer worked out by hand, and on a real trace."""

import csv
import gzip
import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from rayscaler.__main__ import main
from rayscaler.cli.simulate import plot, trace
from rayscaler.cli.simulate.command import simulate
from rayscaler.cli.simulate.log import Log
from rayscaler.config import demandfile
from rayscaler.model.demand import Bundle
from rayscaler.model.instance import Reason
from tests.bench import openb

pytestmark = pytest.mark.tier("unit")

SCHEMA = json.loads((Path(__file__).parents[2] / "schema" / "simulate.schema.json").read_text())
VALID = jsonschema.Draft202012Validator(SCHEMA)

CLUSTER = {
    "apiVersion": "rayscaler.io/v1",
    "kind": "Cluster",
    "metadata": {"name": "demo"},
    "spec": {"nodeTypes": [{"name": "box", "resources": {"CPU": 4}, "cost": 3.6}]},
}
"""A second of a box costs 0.001; it may be idle for 300 s."""
TRACE = """arrival_s,duration_s,count,CPU
0,600,2,2
100,100,,4
700,50,1,1
"""
REACTION_S, LATE_S = 0.3, 0.001
"""From a change to the plan for it; a timeout is looked at that much later."""


def files(tmp_path: Path, trace: str, spec: object = None) -> list[str]:
    definition = CLUSTER if spec is None else {**CLUSTER, "spec": spec}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(definition))
    (tmp_path / "pods.csv").write_text(trace)
    return ["--trace", str(tmp_path / "pods.csv"), "--cluster", str(tmp_path / "cluster.yaml")]


def run(argv: Sequence[str]) -> Result:
    result = CliRunner().invoke(simulate, argv, env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def simulated(tmp_path: Path, trace: str, spec: object = None, *more: str, code: int = 0) -> dict:
    result = run([*files(tmp_path, trace, spec), *more, "--json"])
    assert result.exit_code == code
    found = json.loads(result.output)
    VALID.validate(found)
    return found


def told(monkeypatch, capsys, argv: Sequence[str]) -> list[str]:
    """Return what the whole program says of what it refuses."""
    monkeypatch.setattr(sys, "argv", ["rayscaler", "simulate", *argv])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_a_small_trace_comes_to_what_was_worked_out_by_hand(tmp_path):
    """Two tasks wait for the first box; the third finds it full and waits for another; the fourth starts at once.

    First box: launched at 0.3, joins at 60.3, idle at 660.3 and again at 750, so ended at 1050. Second: launched at 100.3, joins at 160.3, idle at 260.3,
    ended at 560.3.
    """
    found = simulated(tmp_path, TRACE)
    first_s, second_s = 1050 - 0.3 + LATE_S, 560.3 - 100.3 + LATE_S
    assert found["tasks"] == {"arrived": 4, "finished": 4, "never_placed": 0}
    assert found["waiting_s"] == pytest.approx({"mean": 60.3 * 3 / 4, "median": 60.3, "p95": 60.3, "max": 60.3})
    assert found["cost"] == pytest.approx((first_s + second_s) / 1000)
    used, joined_s = 2 * 2 * 600 + 4 * 100 + 50, first_s + second_s - 2 * 60
    assert found["utilisation"] == pytest.approx({"CPU": used / (4 * joined_s)})
    assert found["churn"] == {
        "launches": 2,
        "ends": 2,
        "launches_cancelled": 0,
        "launches_cancelled_and_relaunched": 0,
        "launch_reasons": {"DEMAND": 2},
        "end_reasons": {"IDLE": 2},
    }
    (box,) = found["node_types"]
    assert (box["peak"], box["node_hours"]) == (2, pytest.approx((first_s + second_s) / 3600))
    assert found["span_s"] == pytest.approx(1050 + LATE_S + REACTION_S)
    assert found["assumed"] == {"start_up_s": {"box": 60.0}, "reaction_s": REACTION_S}


def test_the_periods_add_up_to_the_whole(tmp_path):
    found = simulated(tmp_path, TRACE)
    assert sum(each["cost"] for each in found["over_time"]) == pytest.approx(found["cost"])
    assert max(each["most_nodes"] for each in found["over_time"]) == 2
    assert max(each["most_waiting"] for each in found["over_time"]) == 2


def test_the_same_trace_comes_to_the_same_whatever_the_order_of_its_rows(tmp_path):
    head, *rows = TRACE.splitlines()
    one, other = simulated(tmp_path, TRACE), simulated(tmp_path, "\n".join([head, *reversed(rows)]))
    assert one.pop("plans")["count"] == other.pop("plans")["count"]
    assert one == other


def test_a_start_up_time_is_of_one_type_or_of_all_others(tmp_path):
    spec = {"nodeTypes": [{"name": "box", "resources": {"CPU": 4}}, {"name": "gpu", "resources": {"GPU": 1}}]}
    trace = "arrival_s,duration_s,CPU,GPU\n0,10,1,\n0,10,,1\n"
    found = simulated(tmp_path, trace, spec, "--start-up", "gpu=5m", "--start-up", "10s")
    assert found["assumed"]["start_up_s"] == {"box": 10.0, "gpu": 300.0}
    assert found["waiting_s"]["median"] == pytest.approx(10.3)
    assert found["waiting_s"]["max"] == pytest.approx(300.3)
    assert found["cost"] is None


def test_work_that_no_type_can_hold_is_told_with_its_reason_and_exit_code_1(tmp_path):
    found = simulated(tmp_path, "arrival_s,duration_s,count,CPU\n5,10,3,8\n5,10,1,4\n", code=1)
    assert found["tasks"] == {"arrived": 4, "finished": 1, "never_placed": 3}
    (never,) = found["never_placed"]
    assert (never["shape"], never["count"], never["reason"]) == ("{CPU: 8}", 3, "NO_TYPE_FITS")
    said = run(files(tmp_path, "arrival_s,duration_s,count,CPU\n5,10,3,8\n"))
    assert said.exit_code == 1
    assert "3 tasks never got a place" in said.output
    assert "the operator: change the definition" in said.output


def test_work_above_a_maximum_waits_for_the_work_before_it(tmp_path):
    spec = {"nodeTypes": [{"name": "box", "resources": {"CPU": 4}, "maxWorkers": 1}]}
    found = simulated(tmp_path, "arrival_s,duration_s,count,CPU\n0,100,3,4\n", spec)
    assert found["waiting_s"] == pytest.approx({"mean": 160.3, "median": 160.3, "p95": 260.3, "max": 260.3})
    assert found["node_types"][0]["peak"] == 1


def test_labels_are_wishes_as_in_demand_files(tmp_path):
    types = [{"name": zone, "resources": {"CPU": 4}, "labels": {"zone": zone}, "cost": cost} for zone, cost in (("a", 1), ("b", 9))]
    found = simulated(tmp_path, 'arrival_s,duration_s,CPU,label:zone\n0,10,1,"!in(a, c)"\n', {"nodeTypes": types})
    assert {each["name"]: each["launches"] for each in found["node_types"]} == {"a": 0, "b": 1}


def test_minimums_are_there_from_the_beginning_and_paid_for_to_the_end(tmp_path):
    spec = {"nodeTypes": [{"name": "box", "resources": {"CPU": 4}, "cost": 3600, "minWorkers": 1}]}
    found = simulated(tmp_path, "arrival_s,duration_s,CPU\n0,10,1\n1000,10,1\n", spec)
    assert found["node_types"][0]["ends"] == 0
    assert found["cost"] == pytest.approx(found["span_s"] - REACTION_S)
    assert found["churn"]["launch_reasons"] == {"MIN_WORKERS": 1}


def test_shares_of_accelerators_come_from_one_device_each(tmp_path):
    """Three of 0.6 take three devices, though the sum would go into two."""
    spec = {"nodeTypes": [{"name": "gpus", "resources": {"GPU": 2}, "maxWorkers": 1}]}
    found = simulated(tmp_path, "arrival_s,duration_s,count,GPU\n0,100,3,0.6\n", spec)
    assert found["waiting_s"]["median"] == pytest.approx(60.3)
    assert found["waiting_s"]["max"] == pytest.approx(160.3)


def test_j1_hours_of_accelerators_below_work_that_uses_none_are_told(tmp_path):
    """A node of two GPUs joins at 60.3: for 100 s it has a task of CPUs alone, for 50 s one of a GPU beside it, and then the first alone again."""
    spec = {"idleTimeout": "10s", "nodeTypes": [{"name": "gpus", "resources": {"CPU": 4, "GPU": 2}}]}
    trace = "arrival_s,duration_s,CPU,GPU\n0,250,1,0\n160.3,50,1,1\n"
    found = simulated(tmp_path, trace, spec)
    (gpus,) = found["node_types"]
    assert gpus["launches"] == 1
    assert gpus["spared_hours"] == pytest.approx(200 / 3600)
    assert gpus["node_hours"] > gpus["spared_hours"]
    assert "0.1 node hours with them went to work that used none" in run(files(tmp_path, trace, spec)).output


def test_j1_of_a_day_of_cpu_work_no_gpu_node_has_an_hour_where_there_are_others(tmp_path):
    spec = {"nodeTypes": [{"name": "cpus", "resources": {"CPU": 8}}, {"name": "gpus", "resources": {"CPU": 8, "GPU": 1}}]}
    rows = [f"{600 * index},{900 + 100 * (index % 7)},{1 + index % 5},1,0" for index in range(144)]
    found = simulated(tmp_path, "\n".join(["arrival_s,duration_s,count,CPU,GPU", *rows]) + "\n", spec)
    assert found["tasks"]["never_placed"] == 0
    assert {each["name"]: each["launches"] > 0 for each in found["node_types"]} == {"cpus": True, "gpus": False}


@pytest.mark.parametrize(("devices", "last"), [(["fpga"], 160.3), ([], 60.3)])
def test_shares_of_what_the_definition_calls_devices_come_from_one_each(tmp_path, devices, last):
    spec = {"devices": devices, "nodeTypes": [{"name": "fpgas", "resources": {"fpga": 2}, "maxWorkers": 1}]}
    found = simulated(tmp_path, "arrival_s,duration_s,count,fpga\n0,100,3,0.6\n", spec)
    assert found["waiting_s"]["max"] == pytest.approx(last)


def test_a_launch_that_is_called_off_and_made_again_before_it_would_have_joined_counts_once():
    log = Log(())
    for _ in range(2):
        log.launch("box", Reason.DEMAND, 0.0)
    for joins_at in (60.0, 70.0):
        log.call_off("box", Reason.UNNEEDED, 0.0, 20.0, joins_at)
    log.launch("gpu", Reason.DEMAND, 30.0)
    assert log.relaunched == {}
    log.launch("box", Reason.DEMAND, 65.0)
    log.launch("box", Reason.DEMAND, 66.0)
    assert (log.cancelled, log.relaunched) == ({"box": 2}, {"box": 1})
    assert log.peak == {"box": 2, "gpu": 1}


def test_a_real_trace_asks_for_what_its_demand_file_asks_for():
    """The file is made of the trace by other code, for a judge that knows nothing of rayscaler."""
    asked: Counter[Bundle] = Counter()
    for each in trace.from_file(openb.PODS):
        asked[each.bundle] += each.count
    wanted = demandfile.wanted(openb.demand(openb.rows(openb.PODS)), None).demands
    assert asked == {each.bundle: each.count for each in wanted}
    assert asked.total() == 8152


def test_the_first_200_pods_of_a_real_trace_all_get_a_place(tmp_path):
    definition = openb.cluster(openb.rows(openb.NODES))
    lines = gzip.decompress(openb.PODS.read_bytes()).decode().splitlines(keepends=True)[:201]
    argv = files(tmp_path, "".join(lines), definition["spec"])
    (tmp_path / "pods.csv").write_bytes(gzip.compress("".join(lines).encode()))  # packed, as it is kept
    found = json.loads(run([*argv, "--json"]).output)
    VALID.validate(found)
    assert found["tasks"] == {"arrived": 200, "finished": 200, "never_placed": 0}
    assert found["churn"]["launches_cancelled_and_relaunched"] == 0
    assert set(found["utilisation"]) == {"CPU", "GPU", "memory"}
    assert found["waiting_s"]["median"] == 0
    pods = list(csv.DictReader(io.StringIO("".join(lines))))
    work = sum(
        int(pod["cpu_milli"]) / 1000 * (float(pod["deletion_time"]) - float(pod["scheduled_time"] or pod["creation_time"])) for pod in pods
    )
    done = sum(each["running"] * (each["end_s"] - each["begin_s"]) for each in found["over_time"])
    assert done == pytest.approx(sum(float(pod["deletion_time"]) - float(pod["scheduled_time"] or pod["creation_time"]) for pod in pods))
    assert 0 < found["utilisation"]["CPU"] < 1
    assert work > 0


BAD = """arrival_s,duration_s,count,CPU,label:zone
0,10,1,1,a
-1,10,1,1,a
0,soon,0,-2,in(
0,10
"""


def test_every_problem_of_a_trace_is_told_at_once_with_line_and_column(tmp_path, monkeypatch, capsys):
    argv = files(tmp_path, BAD)
    trace = argv[1]
    assert told(monkeypatch, capsys, argv) == [
        f"error: {trace}: line 3, arrival_s: '-1': must be seconds, from 0 to 10000000000",
        f"error: {trace}: line 4, CPU: '-2': an amount is 0 or more",
        f"error: {trace}: line 4, label:zone: 'in(': a label wish is written a, !a, in(a, b) or !in(a, b)",
        f"error: {trace}: line 4, count: '0': must be a whole number from 1 to 1000000",
        f"error: {trace}: line 4, duration_s: 'soon': must be seconds, from 0 to 10000000000",
        f"error: {trace}: line 5: has 2 cells, and the first line 5 columns",
    ]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["line 1: has no column arrival_s; one of: none", "line 1: has no column duration_s; one of: none"]),
        ("arrival_s,duration_s,CPU\n", ["has no row: nothing to simulate"]),
        ("arival_s,duration_s,CPU,CPU\n0,1,1,1\n", ["line 1: has no column arrival_s; did you mean arival_s?", "line 1: 'CPU': is a column twice"]),
        ("arrival_s,duration_s,\n0,1,1\n", ["line 1: column 3 has no name"]),
        ('arrival_s,duration_s\n0,"1\n', ["line 2: is no CSV: unexpected end of data"]),
        ("arrival_s,duration_s\n0,nan\n", ["line 2, duration_s: 'nan': must be seconds, from 0 to 10000000000"]),
        ("arrival_s,duration_s\n0,\n", ["line 2, duration_s: '': must be seconds, from 0 to 10000000000"]),
        ("name,creation_time\na,0\n", ["line 1: an openb trace has the columns cpu_milli, creation_time, deletion_time, gpu_milli, memory_mib, num_gpu, scheduled_time; missing: cpu_milli, deletion_time, gpu_milli, memory_mib, num_gpu, scheduled_time"]),
        (
            "cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,deletion_time,scheduled_time\n1.5,1,1,1,9,8,\n",
            ["line 2, deletion_time: '8': must not be before it was scheduled", "line 2, cpu_milli: '1.5': must be a whole number from 0 to 100000000"],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_trace_is_said(tmp_path, monkeypatch, capsys, text, problems):
    argv = files(tmp_path, text)
    assert told(monkeypatch, capsys, argv) == [f"error: {argv[1]}: {each}" for each in problems]


def test_of_a_file_full_of_problems_a_hundred_are_told_and_the_number_of_the_others(tmp_path, monkeypatch, capsys):
    argv = files(tmp_path, "arrival_s,duration_s\n" + "0,x\n" * 150)
    said = told(monkeypatch, capsys, argv)
    assert len(said) == 101
    assert said[-1] == f"error: {argv[1]}: and 50 more problems"


def test_the_problems_of_definition_and_trace_are_told_together(tmp_path, monkeypatch, capsys):
    argv = files(tmp_path, BAD, {"nodeTypes": [{"name": "box", "cost": -1}]})
    said = told(monkeypatch, capsys, argv)
    assert any("cluster.yaml" in each for each in said)
    assert any("pods.csv" in each for each in said)


def test_files_that_are_not_there_or_no_text_are_named(tmp_path, monkeypatch, capsys):
    argv = files(tmp_path, TRACE)
    for content in (None, b"\x1f\x8bno gzip", b"\xff\xfe"):
        (tmp_path / "pods.csv").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "pods.csv").write_bytes(content)
        (said,) = told(monkeypatch, capsys, argv)
        assert said.startswith(f"error: {argv[1]}: cannot be read")


def test_a_start_up_time_that_is_none_is_refused(tmp_path, monkeypatch, capsys):
    argv = [*files(tmp_path, TRACE), "--start-up", "bix=1m", "--start-up", "fast"]
    assert told(monkeypatch, capsys, argv) == [
        "error: --start-up: 'bix=1m': no such node type in the definition; did you mean box?",
        "error: --start-up: 'fast': a duration is written like 30s, 5m or 1h30m",
    ]


@pytest.mark.timeout(60)  # matplotlib draws twice, slowly on a busy machine
@pytest.mark.parametrize(("name", "begins"), [("sim.png", b"\x89PNG"), ("sim.html", b"<!doctype html>")])
def test_a_picture_is_drawn_and_the_same_one_again(tmp_path, name, begins):
    argv = [*files(tmp_path, TRACE), "--plot", str(tmp_path / name)]
    assert run(argv).exit_code == 0
    made = (tmp_path / name).read_bytes()
    assert made.startswith(begins)
    run(argv)
    assert (tmp_path / name).read_bytes() == made


def test_a_page_needs_nothing_else_and_says_the_figures(tmp_path):
    run([*files(tmp_path, TRACE), "--plot", str(tmp_path / "sim.html")])
    page = (tmp_path / "sim.html").read_text()
    assert "<svg" in page
    assert "median 60.3 s, p95 60.3 s, max 60.3 s" in page
    assert not [each for each in ("<script", "<link", "<img", "src=") if each in page]


def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_is_simulated(tmp_path, monkeypatch, capsys):
    argv = files(tmp_path, TRACE)
    (said,) = told(monkeypatch, capsys, [*argv, "--plot", "sim.gif"])
    assert said == "error: --plot: 'sim.gif': must end in .png or .html"
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    (said,) = told(monkeypatch, capsys, [*argv, "--plot", "sim.png"])
    assert said == "error: --plot: 'sim.png': needs matplotlib, which is not installed: pip install 'rayscaler[plot]'"


def test_a_picture_that_cannot_be_written_is_said(tmp_path, monkeypatch, capsys):
    where = str(tmp_path / "nowhere" / "sim.png")
    (said,) = told(monkeypatch, capsys, [*files(tmp_path, TRACE), "--plot", where])
    assert said == f"error: --plot: {where!r}: cannot be written: No such file or directory"


def test_tables_show_the_same(tmp_path):
    said = " ".join(run(files(tmp_path, TRACE)).output.replace("│", " ").split())
    assert "tasks 4 came, 4 ended, 0 never placed" in said
    assert "cost 1.51" in said
    assert "waiting median 60.3 s, p95 60.3 s, max 60.3 s" in said
    assert "churn 2 launches, 0 cancelled (0 of these relaunched of the same type), 2 nodes ended" in said
    assert "box 2 2 2 0 0 0.4 1.51" in said
    assert "all work got a place; cost 1.51; a node is taken to start in 60.0 s" in said


def test_d4_of_a_burst_no_more_is_begun_in_a_minute_than_allowed_and_all_is_had(tmp_path):
    spec = {"maxLaunchesPerMinute": 2, "nodeTypes": [{"name": "box", "resources": {"CPU": 4}, "idleTimeout": "1s"}]}
    told = json.loads(run([*files(tmp_path, "arrival_s,duration_s,count,CPU\n0,1000,5,4\n", spec), "--start-up", "10s", "--json"]).output)
    assert told["never_placed"] == []
    assert [each["launches"] for each in told["node_types"]] == [5]
    assert told["waiting_s"]["max"] == pytest.approx(2 * 60 + 10 + REACTION_S + LATE_S, abs=0.1)


def test_replicas_of_several_hosts_come_and_go_whole(tmp_path):
    spec = {"idleTimeout": "60s", "nodeTypes": [{"name": "slice", "resources": {"TPU": 4}, "hostsPerReplica": 4, "cost": 3600}]}
    found = simulated(tmp_path, "arrival_s,duration_s,count,TPU\n0,100,5,4\n", spec)
    assert (found["node_types"][0]["launches"], found["node_types"][0]["ends"]) == (8, 8)
    assert found["churn"]["launch_reasons"] == {"DEMAND": 5, "REPLICA": 3}
    assert found["churn"]["end_reasons"] == {"IDLE": 8}
