"""The whole product in a namespace: one ConfigMap makes a cluster, pods follow demand; the real API server, service and monitor, a fake Ray."""

import asyncio
import json
import re
import signal
import subprocess
import sys

import pytest
import yaml

from rayscaler.cli.exits import Exit
from rayscaler.model.resources import Resources
from tests.cluster.product import awaited, document

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(240)]

ONE = Resources.of(CPU=1)
SMALL = {"name": "small", "resources": {"CPU": 1}, "maxWorkers": 50}


async def test_a_config_map_makes_a_head_and_pods_come_and_go_with_the_demand(ours):
    service = await ours.serve()
    definition = document("demo", SMALL, idleTimeout="2s")
    await ours.define(definition)
    async with ours.ray(definition, service.address) as ray:
        tasks = ray.gcs.submit(ONE, 3)
        pods = await ours.counted("demo", 3)
        assert {each["metadata"]["labels"]["rayscaler.io/node-type"] for each in pods} == {"small"}
        await awaited(lambda: _all_run(ray, tasks))
        for each in tasks:
            ray.gcs.finish(each)
        await ours.counted("demo", 0)
        drained = {request.node_id.hex() for request in ray.gcs.drains}
        assert {node.ray_node_id for node in ray.gcs.nodes.values() if node.instance_id} == drained


async def _all_run(ray, tasks):
    return all(ray.gcs.tasks[each].node is not None for each in tasks)


async def test_deleting_the_definition_deletes_all_that_was_made_of_it(ours):
    service = await ours.serve()
    definition = document("demo", {**SMALL, "minWorkers": 2})
    await ours.define(definition)
    async with ours.ray(definition, service.address):
        await ours.counted("demo", 2)
    await ours.namespace.api.delete(ours.namespace.path("configmaps/demo"))

    async def nothing():
        left = [await ours.namespace.api.get(ours.namespace.path(kind)) for kind in ("pods", "services", "configmaps")]
        return not [each["metadata"]["name"] for found in left for each in found["items"] if each["metadata"]["name"].startswith("demo")]

    await awaited(nothing)
    assert service.process.returncode is None


async def test_status_and_explain_of_a_namespace_need_no_right_but_to_read_config_maps(ours):
    service = await ours.serve()
    definition = document("demo", {**SMALL, "maxWorkers": 1})
    await ours.define(definition)
    reader = await ours.namespace.account("reader", [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}])

    def ask(*args):
        argv = [sys.executable, "-m", "rayscaler", "-n", ours.namespace.name, *args, "--json"]
        done = subprocess.run(argv, env={"KUBECONFIG": str(reader.kubeconfig), "PATH": ""}, capture_output=True, text=True, check=False)
        return json.loads(done.stdout)["clusters"] if done.returncode == 0 else []

    async with ours.ray(definition, service.address) as ray:
        ray.gcs.submit(ONE, 3)

        async def told():
            found = await asyncio.to_thread(ask, "status")
            pending = found[0].get("pending", ()) if found else ()
            return [each for each in pending if (each["reason"], each["count"]) == ("MAX_WORKERS_OF_TYPE", "2")]

        assert len(await awaited(told)) == 1
        explained = await asyncio.to_thread(ask, "explain")
        assert {each["because"]["reason"] for each in explained[0]["shapes"]} >= {"MAX_WORKERS_OF_TYPE"}


async def test_a_reader_watches_a_namespace_while_its_cluster_changes(ours):
    """`rayscaler -n NAMESPACE status --watch` with no right but to read ConfigMaps: each change is seen until Ctrl-C."""
    service = await ours.serve()
    definition = document("demo", {**SMALL, "maxWorkers": 2})
    await ours.define(definition)
    reader = await ours.namespace.account("reader", [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}])
    argv = ["-m", "rayscaler", "-n", ours.namespace.name, "status", "--watch", "--every", "0.2"]
    env = {"KUBECONFIG": str(reader.kubeconfig), "PATH": "", "COLUMNS": "200"}
    async with ours.ray(definition, service.address) as ray:
        ray.gcs.submit(ONE, 3)
        watching = await asyncio.create_subprocess_exec(sys.executable, *argv, env=env, stdout=asyncio.subprocess.PIPE)

        async def shown(pattern: str) -> str:
            """Read on until a line matches."""
            async with asyncio.timeout(60.0):
                while line := (await watching.stdout.readline()).decode():
                    if re.search(pattern, line):
                        return line
            raise AssertionError("it has ended")

        before = await shown(r"^demo: .* definition \w+")
        await shown(r"demo-small-1-1 .* RUNNING ")
        await shown(r"CPU.* MAX_WORKERS_OF_TYPE ")
        raised = yaml.safe_dump(document("demo", {**SMALL, "maxWorkers": 3}))
        await ours.namespace.api.patch(ours.namespace.path("configmaps/demo"), {"data": {"cluster.yaml": raised}})
        await shown(r"demo-small-2-0 .* RUNNING ")
        assert await shown("^demo: ") != before
        watching.send_signal(signal.SIGINT)
        rest, _ = await asyncio.wait_for(watching.communicate(), 30.0)
        assert (watching.returncode, b"Traceback" in rest) == (Exit.INTERRUPTED, False)
    assert {each["verb"] for each in ours.namespace.audit(reader.user)} <= {"get", "list"}


async def test_a_bad_edit_is_told_on_the_config_map_and_changes_nothing(ours):
    service = await ours.serve()
    definition = document("demo", {**SMALL, "minWorkers": 1})
    await ours.define(definition)
    async with ours.ray(definition, service.address):
        (before,) = await ours.counted("demo", 1)
        api, path = ours.namespace.api, ours.namespace.path
        await api.patch(
            path("configmaps/demo"), {"data": {"cluster.yaml": "apiVersion: rayscaler.io/v1\nkind: Cluster\nspec: {nodeTypes: 7}"}}
        )

        async def refused():
            events = await api.get(path("events"), fieldSelector="involvedObject.name=demo")
            return [each["message"] for each in events["items"] if each["reason"] == "DefinitionRefused"]

        (message,) = await awaited(refused)
        assert "spec.nodeTypes" in message

        async def is_invalid():
            return (await _definition_valid(ours))["status"] == "False"

        await awaited(is_invalid)
        assert [each["metadata"]["uid"] for each in await ours.workers("demo")] == [before["metadata"]["uid"]]


async def test_a_killed_service_loses_and_doubles_nothing(ours):
    first = await ours.serve()
    definition = document("demo", SMALL)
    await ours.define(definition)
    async with ours.ray(definition, first.address) as ray:
        ray.gcs.submit(ONE, 5)
        before = {each["metadata"]["uid"] for each in await ours.counted("demo", 5)}
        uid = ray.head_uid
    since = await awaited(lambda: _valid_since(ours))
    await first.kill()
    second = await ours.serve()
    async with ours.ray(definition, second.address) as ray:
        assert ray.head_uid == uid
        ray.gcs.submit(ONE, 7)
        after = {each["metadata"]["uid"] for each in await ours.counted("demo", 7)}
        assert before <= after
        assert await _valid_since(ours) == since


async def _valid_since(ours):
    """Since when the definition is said to be valid; the next leader must not begin anew."""
    valid = await _definition_valid(ours)
    return valid["lastTransitionTime"] if valid["status"] == "True" else ""


async def _definition_valid(ours):
    """Return that condition as it is written back."""
    written = await ours.namespace.api.get(ours.namespace.path("configmaps/demo.rayscaler-status"))
    return {each["type"]: each for each in json.loads(written["data"]["status.json"])["conditions"]}["DefinitionValid"]
