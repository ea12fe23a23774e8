"""`rayscaler explain`, `status --watch` and their JSON against a service that runs: as a user types them."""

import asyncio
import json
import signal
import sys

import pytest
from google.protobuf.json_format import MessageToJson

from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from tests.cli.test_schemas import validator
from tests.server.sockets import report, service

pytestmark = pytest.mark.tier("protocol")

HUGE = ray.ResourceRequestByCount(request=ray.ResourceRequest(resources_bundle={"CPU": 64.0}), count=3)
SMALL = ray.ResourceRequestByCount(request=ray.ResourceRequest(resources_bundle={"CPU": 1.0}), count=2)
ROWS = [
    ray.NodeState(node_id=b"\xaa\x11", status=ray.NODE_STATUS_RUNNING, total_resources={"node:__internal_head__": 1.0}),
    ray.NodeState(node_id=b"\xbb\x22", status=ray.NODE_STATUS_RUNNING, node_activity=["[bold]Busy[/] \x1b[31m"]),
]


def shown(message) -> str:
    return MessageToJson(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


async def run(*args: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rayscaler", *args), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={"COLUMNS": "80"}
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def explained(s, *args: str) -> tuple[int, str, str]:
    return await run("explain", "--service", s.address, *args)


async def busy(s) -> pb.ClusterExplanation:
    """Report a cluster in which something waits for ever, something is launched, and two nodes are not ours; return what is said of it."""
    state = ray.ClusterResourceState(node_states=ROWS, pending_resource_requests=[HUGE, SMALL])
    taken = pb.Snapshot(state=state, jobs=[ray.JobTableData(job_id=b"job1")])
    while True:
        await s.stub.ReportDemand(report(1, snapshot=taken))
        (found,) = (await s.stub.Explain(pb.ExplainRequest(cluster="demo"))).clusters
        if len(found.nodes) >= 4:
            return found
        await asyncio.sleep(0.02)


async def test_explain_tells_all_or_what_is_asked_for():
    async with service() as s:
        await busy(s)
        (code, everything, _), (_, told, _), (near_code, _, near) = await asyncio.gather(
            explained(s), explained(s, "--json", "CPU=64"), explained(s, "smal")
        )
        assert code == 0
        for text in ("NO_TYPE_FITS", "the operator", "LAUNCHING", "demo-small-1-0", "HEAD_NODE", "NOT_OURS", "READY", "{CPU: 64}"):
            assert text in everything
        assert max(map(len, everything.splitlines())) <= 80
        assert len(everything.splitlines()) < 60, "it can be read in 80 characters"
        validator("explain").validate(json.loads(told))
        (found,) = json.loads(told)["clusters"]
        assert [(each["shape"], each["count"]) for each in found["shapes"]] == [("{CPU: 64}", "3")]
        assert (found["nodes"], found["node_types"]) == ([], [])
        assert found["shapes"][0]["because"]["mover"] == "MOVER_OPERATOR"
        assert near_code == 2
        assert near == "error: SUBJECT: 'smal': no pending shape, node or node type is called so; did you mean small?\n"


async def test_explain_says_what_of_the_definition_is_not_taken_and_what_may_not_be_meant_so():
    async with service() as s:
        await busy(s)
        s.reconcilers[0].advise(("spec.nodeTypes[0]: [bold]odd[/]",))
        s.reconcilers[0].refuse(("spec.maxWorkers: -1: must be 0 or more", "spec.nodeTypes: is required"))
        (_, everything, _), (_, told, _), (code, _, unknown) = await asyncio.gather(
            explained(s), explained(s, "--json", "small"), explained(s, "large")
        )
        text = " ".join(everything.split())
        for said in (
            "the changed definition is not taken, the last one stays in force: spec.maxWorkers: -1: must be 0 or more",
            "the changed definition is not taken, the last one stays in force: spec.nodeTypes: is required",
            "the definition in force may not be meant so: spec.nodeTypes[0]: [bold]odd[/]",
        ):
            assert said in text
        validator("explain").validate(json.loads(told))
        (found,) = json.loads(told)["clusters"]
        assert found["definition"]["problems"] == ["spec.maxWorkers: -1: must be 0 or more", "spec.nodeTypes: is required"]
        assert found["definition"]["warnings"] == ["spec.nodeTypes[0]: [bold]odd[/]"]
        assert (code, unknown.endswith("; the changed definition of demo is not taken, `rayscaler explain` says why\n")) == (2, True)
        s.reconcilers[0].redefine(s.reconcilers[0].config, "next")
        assert "definition" not in (await explained(s))[1].splitlines()[1]


async def test_status_json_is_as_its_schema_says_at_first_and_when_much_is_known():
    async with service() as s:
        _, first, _ = await run("status", "--service", s.address, "--json")
        found = await busy(s)
        whole = pb.ExplainResponse(clusters=[found])
        validator("explain").validate(json.loads(shown(whole)))
        _, later, _ = await run("status", "--service", s.address, "--json")
        for told in (first, later):
            validator("status").validate(json.loads(told))
        assert json.loads(first)["clusters"][0]["blind"] == "NO_REPORT"
        assert json.loads(later)["clusters"][0]["instances"]


async def test_watch_goes_on_while_the_service_is_away_and_ends_with_ctrl_c():
    async with service() as s:
        argv = (sys.executable, "-m", "rayscaler", "status", "--watch", "--every", "0.1", "--service", s.address)
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, env={"COLUMNS": "200"})
        assert process.stdout is not None

        async def until(text: str) -> None:
            while text not in (await process.stdout.readline()).decode():
                pass

        await until("demo: no report yet")
        await s.server.stop(0)
        await until("unreachable since ")
        await until("as it was seen last:")
        await until("demo: no report yet")
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 130


async def test_watch_and_json_exclude_each_other_and_nobody_at_the_address_is_told():
    code, _, told = await run("status", "--watch", "--json")
    assert (code, "--watch is for people" in told) == (2, True)
    code, _, told = await run("explain", "--service", "127.0.0.1:1")
    assert (code, told.startswith("error: no service answers at 127.0.0.1:1")) == (1, True)
