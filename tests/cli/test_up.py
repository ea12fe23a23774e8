"""`rayscaler up` and `down` with their real service, monitor and supervisors; only `ray` is a fake."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from rayscaler.config.file import content_hash
from rayscaler.local.parts import only_one
from tests.cli.fake_ray import HANGS, STAYS
from tests.cli.stage import PARTS, PATIENCE_S, Site
from tests.ports import free_port
from tests.ray.workers import marked

pytestmark = pytest.mark.tier("protocol")


@pytest.fixture
async def site(tmp_path) -> AsyncIterator[Site]:
    """A site whose path is longer than a unix socket's may be."""
    base = tmp_path / ("long" * 25)
    base.mkdir()
    made = Site(base)
    try:
        yield made
    finally:
        while left := marked(made.mark):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.05)


async def until(is_so: Callable[[], Any]) -> Any:
    """Wait until something is so, and return it."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := is_so()):  # noqa: ASYNC110 - what is awaited happens in other processes
            await asyncio.sleep(0.05)
    return found


def pids(site: Site, words: str) -> list[int]:
    """Return the processes of a site whose command line has these words."""
    return [pid for pid, line in marked(site.mark).items() if words in line and "rejoin.py" not in line]


def kept(parts: dict[str, dict[str, Any]]) -> dict[str, int]:
    return {name: part["supervisor_pid"] for name, part in parts.items()}


def outcomes(parts: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: part["outcome"] for name, part in parts.items()}


async def test_up_starts_three_parts_up_again_none_and_down_leaves_their_logs_only(site):
    first = await site.is_up()
    assert outcomes(first) == dict.fromkeys(PARTS, "started")
    assert set(kept(first).values()) | {part["pid"] for part in first.values()} <= set(marked(site.mark))
    again = await site.is_up()
    assert outcomes(again) == dict.fromkeys(PARTS, "was up")
    assert kept(again) == kept(first)
    code, out, err = await site.run("up", "-f", str(site.define()), "--state-dir", str(site.base / site.state), "--json")
    assert (code, json.loads(out)["service"], outcomes(json.loads(out)["parts"])) == (0, site.listen, dict.fromkeys(PARTS, "was up")), err
    code, out, _ = await site.down()
    assert (code, "mine is down" in out) == (0, True)
    assert marked(site.mark) == {}
    assert sorted(path.name for path in site.parts.iterdir()) == ["head.log", "monitor.log", "service.log"]
    code, out, _ = await site.down()
    assert (code, "nothing is up" in out) == (0, True)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read: No such file or directory"), (b"kind: \xff", "cannot be read as text: 'utf-8' codec"), (b"kind: [", "line 1")],
)
async def test_a_file_that_is_no_definition_is_an_error_in_a_line_for_up_and_down(site, content, problem):
    path = site.base / "none.yaml"
    if content is not None:
        path.write_bytes(content)
    for command in ("up", "down"):
        code, out, err = await site.run(command, "-f", str(path), "--state-dir", str(site.base / site.state))
        assert (code, out, err.startswith(f"error: {path}: {problem}"), err.count("\n")) == (2, "", True, 1), err


async def test_up_warns_of_what_may_not_be_meant_so(site):
    site.spec = {"nodeTypes": [{"name": "extra", "resources": {}}]}
    code, out, err = await site.up("--json")
    assert (code, set(json.loads(out)["parts"])) == (0, set(PARTS))
    assert f"warning: {site.base / 'cluster.yaml'}: spec.nodeTypes[0].resources: {{}}: extra brings nothing" in err


async def test_up_says_how_it_is_used(site):
    code, out, err = await site.up()
    assert code == 0, err
    assert "service started, head started, monitor started" in out
    for words in (
        f'ray.init("127.0.0.1:{site.port}")',
        'ray.init("ray://127.0.0.1:',
        f"rayscaler status --service {site.listen}",
        f"rayscaler up -f {site.base / 'cluster.yaml'} --state-dir {site.base / site.state}",
        f"rayscaler down --state-dir {site.base / site.state}",
    ):
        assert words in out
    _, out, _ = await site.run("status", "--service", site.listen, "--json")
    assert json.loads(out)["clusters"][0]["session"]["session_name"] == "session_1"


async def test_a_part_that_dies_is_started_again_by_its_supervisor(site):
    parts = await site.is_up()
    for name, words in (("service", "rayscaler serve"), ("head", "fake_ray"), ("monitor", "rayscaler monitor")):
        dead = parts[name]["pid"]
        os.kill(dead, signal.SIGKILL)
        again = await until(lambda: [pid for pid in pids(site, words) if pid != dead])  # noqa: B023 - waited for here
        after = await site.is_up()
        assert outcomes(after) == dict.fromkeys(PARTS, "was up"), name
        assert kept(after) == kept(parts), name
        assert after[name]["pid"] in again, name


async def test_what_a_killed_supervisor_left_is_ended_and_started_anew_and_a_new_head_gets_a_new_monitor(site):
    parts = await site.is_up()
    os.kill(parts["head"]["supervisor_pid"], signal.SIGKILL)
    orphan = parts["head"]["pid"]
    assert orphan in marked(site.mark)
    after = await site.is_up()
    assert outcomes(after) == {"service": "was up", "head": "started", "monitor": "started anew"}
    assert orphan not in marked(site.mark)
    _, out, _ = await site.run("status", "--service", site.listen, "--json")
    assert json.loads(out)["clusters"][0]["head_incarnation"].startswith(f"{after['head']['supervisor_pid']}-")


async def test_a_running_service_takes_an_edit_that_was_applied_and_reads_none_that_was_not(site):
    parts = await site.is_up()
    site.spec = {"nodeTypes": [{"name": "extra", "resources": {"CPU": 1}, "maxWorkers": 1}]}
    site.define()
    os.kill(parts["service"]["pid"], signal.SIGKILL)
    await until(lambda: len([line for line in site.log("service").splitlines() if "listens at" in line]) == 2)
    _, out, _ = await site.run("status", "--service", site.listen, "--json")
    (told,) = json.loads(out)["clusters"]
    assert (told["node_types"], told["notices"]) == ([], [])
    before = await until(lambda: pids(site, "rayscaler serve"))
    after = await site.is_up()
    assert outcomes(after) == {"service": "took the changed definition", "head": "was up", "monitor": "was up"}
    assert (kept(after), pids(site, "rayscaler serve")) == (kept(parts), before)
    _, out, _ = await site.run("status", "--service", site.listen, "--json")
    (told,) = json.loads(out)["clusters"]
    assert [each["name"] for each in told["node_types"]] == ["extra"]
    assert told["definition"]["hash"] == content_hash((site.base / "cluster.yaml").read_bytes())
    assert outcomes(await site.is_up()) == dict.fromkeys(PARTS, "was up")


async def test_the_service_moves_when_it_is_told_to_and_the_monitor_follows(site):
    await site.is_up()
    site.listen = f"127.0.0.1:{free_port()}"
    after = await site.is_up()
    assert outcomes(after) == {"service": "started anew", "head": "was up", "monitor": "started anew"}
    code, out, _ = await site.run("status", "--service", site.listen, "--json")
    assert (code, json.loads(out)["clusters"][0]["blind"]) == (0, "")


async def test_a_running_head_is_never_changed(site):
    parts = await site.is_up()
    site.head = {"env": {"COLOR": "red"}}
    code, _, err = await site.up()
    assert (code, "spec.head: has changed" in err, f"rayscaler down --state-dir {site.base / site.state}`" in err) == (1, True, True)
    site.head = {}
    assert kept(await site.is_up()) == kept(parts)


async def test_workers_outlive_their_service_and_end_with_down(site):
    site.spec = {"nodeTypes": [{"name": "small", "resources": {"CPU": 1}, "minWorkers": 2}]}
    parts = await site.is_up()
    workers = await until(lambda: len(found := pids(site, "fake_ray start --block")) == 2 and found)
    os.kill(parts["service"]["pid"], signal.SIGKILL)
    await until(lambda: len([line for line in site.log("service").splitlines() if "listens at" in line]) == 2)
    assert pids(site, "fake_ray start --block") == workers
    code, out, err = await site.down("--json")
    assert code == 0, err
    assert json.loads(out)["ended"] == [{"cluster": "mine", "workers": 2}]
    assert marked(site.mark) == {}


async def test_cd_9_a_service_that_dies_with_its_definition_spoilt_keeps_its_workers_and_up_again_mends_it(site):
    site.spec = {"nodeTypes": [{"name": "small", "resources": {"CPU": 1}, "minWorkers": 2}]}
    parts = await site.is_up()
    workers = await until(lambda: len(found := pids(site, "fake_ray start --block")) == 2 and found)
    (site.parts / "cluster.yaml").write_text("spoilt")
    os.kill(parts["service"]["pid"], signal.SIGKILL)
    await until(lambda: len([line for line in site.log("service").splitlines() if "listens at" in line]) == 2)
    async with asyncio.timeout(PATIENCE_S):  # it listens a moment before it has looked at its definition
        while True:
            _, out, _ = await site.run("status", "--service", site.listen, "--json")
            (told,) = json.loads(out)["clusters"]
            if any("is not taken" in each and "stays in force" in each for each in told["notices"]):
                break
    assert [each["name"] for each in told["node_types"]] == ["small"]
    assert pids(site, "fake_ray start --block") == workers
    assert outcomes(await site.is_up()) == {"service": "took the changed definition", "head": "was up", "monitor": "was up"}
    _, out, _ = await site.run("status", "--service", site.listen, "--json")
    assert json.loads(out)["clusters"][0]["notices"] == []
    assert pids(site, "fake_ray start --block") == workers


@pytest.mark.parametrize(("taken", "path"), [("port", "spec.head.startParams.port: {port}:"), ("listen", "--listen: {listen}:")])
async def test_a_port_that_somebody_else_has_is_refused_before_anything_starts(site, taken, path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", site.port if taken == "port" else int(site.listen.rpartition(":")[2])))
        other.listen()
        code, _, err = await site.up()
    assert code == 2
    assert path.format(port=site.port, listen=site.listen) in err
    assert "something else listens there" in err
    assert marked(site.mark) == {}


@pytest.mark.parametrize(("flag", "port"), [("port", "0"), ("port", "65536"), ("ray-client-server-port", "gcs")])
async def test_a_port_that_is_none_is_refused(site, flag, port):
    site.head = {"startParams": {flag: port}}
    code, _, err = await site.up()
    assert (code, f"cluster.yaml: spec.head.startParams.{flag}: '{port}': must be a port" in err) == (2, True)


async def test_resources_that_ray_start_refuses_are_told_with_their_path(site):
    site.head = {"resources": {"CPU": 0.5}}
    code, _, err = await site.up()
    assert (code, "cluster.yaml: spec.head.resources.CPU: 0.5:" in err) == (2, True)
    assert marked(site.mark) == {}


async def test_a_head_that_does_not_start_is_told_with_its_own_words_and_nothing_is_left(site):
    site.head = {"startParams": {"object-store-memory": "nonsense"}}
    code, out, err = await site.up()
    assert (code, out) == (1, "")
    for words in ("the head ended while it started", str(site.parts / "head.log"), "'nonsense' is not a valid integer", "rayscaler up"):
        assert words in err
    assert marked(site.mark) == {}
    assert list(site.parts.glob("*.json")) == []


async def test_a_failure_leaves_alone_what_was_up_before(site):
    parts = await site.is_up()
    os.kill(parts["head"]["supervisor_pid"], signal.SIGKILL)
    site.head = {"startParams": {"object-store-memory": "nonsense"}}
    code, _, err = await site.up()
    assert (code, "the head ended while it started" in err) == (1, True)
    left = set(marked(site.mark))
    assert {parts["monitor"]["supervisor_pid"], parts["monitor"]["pid"]} <= left
    assert parts["head"]["pid"] not in left
    assert (await site.down())[0] == 0
    assert marked(site.mark) == {}


async def test_ctrl_c_ends_what_was_begun(site):
    site.head = {"env": {HANGS: "1"}}
    process = await site.begin("up", "-f", str(site.define()), "--listen", site.listen, "--state-dir", str(site.base / site.state))
    await until(lambda: pids(site, "fake_ray"))
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGINT)
    async with asyncio.timeout(PATIENCE_S):
        _, err = await process.communicate()
    assert (process.returncode, b"interrupted" in err) == (130, True)
    assert marked(site.mark) == {}


async def test_a_down_that_was_interrupted_is_gone_on_with(site):
    site.spec = {"nodeTypes": [{"name": "small", "resources": {"CPU": 1}, "minWorkers": 1, "env": {STAYS: "1"}}]}
    await site.is_up()
    await until(lambda: [log for log in (site.base / site.state / "run/mine").glob("*.log") if "Ray runtime started." in log.read_text()])
    process = await site.begin("down", "--state-dir", str(site.base / site.state))
    await until(lambda: not pids(site, "rayscaler serve"))
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE_S):
        _, err = await process.communicate()
    assert (process.returncode, b"run `rayscaler down` again" in err) == (130, True)
    assert pids(site, "fake_ray start --head")
    for pid in pids(site, "fake_ray start --block"):
        os.kill(pid, signal.SIGKILL)
    code, out, err = await site.down("--json")
    assert (code, json.loads(out)["ended"]) == (0, [{"cluster": "mine", "workers": 1}]), err
    assert marked(site.mark) == {}


async def test_one_that_was_killed_half_way_is_gone_on_with(site):
    site.head = {"env": {HANGS: "1"}}
    process = await site.begin("up", "-f", str(site.define()), "--listen", site.listen, "--state-dir", str(site.base / site.state))
    await until(lambda: pids(site, "fake_ray"))
    os.killpg(process.pid, signal.SIGKILL)
    await process.communicate()
    code, _, err = await site.down()
    assert (code, marked(site.mark)) == (0, {}), err


async def test_a_state_directory_has_one_cluster_and_two_directories_two(site):
    await site.is_up()
    other = Site(site.base, name="other")
    code, _, err = await other.up()
    assert (code, "the cluster 'mine' is up there" in err, "--state-dir" in err) == (1, True, True)
    other.state = "state2"
    assert outcomes(await other.is_up()) == dict.fromkeys(PARTS, "started")
    code, out, _ = await other.down("mine")
    assert (code, "mine is not up" in out) == (0, True)
    assert (await other.down("other"))[0] == 0
    assert outcomes(await site.is_up()) == dict.fromkeys(PARTS, "was up")


async def test_two_at_once_are_refused(site):
    with only_one(site.base / site.state / "up" / "lock"):
        code, _, err = await site.up()
    assert (code, "wait for its end" in err) == (1, True)
