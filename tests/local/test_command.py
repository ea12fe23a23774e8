"""Command lines are goldens: what is planned is what Ray is told, and nothing is left to detection."""

import json
from pathlib import Path

import pytest

from rayscaler.errors import InvalidRequest
from rayscaler.executor import raystart
from rayscaler.executor.base import LaunchSpec
from rayscaler.local import command
from rayscaler.local.head import HeadOptions, head_argv, head_env
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources

pytestmark = pytest.mark.tier("unit")


def launch(node_type: NodeType) -> LaunchSpec:
    return LaunchSpec("c", "i-1", node_type, "192.0.2.9:6379")


def test_a_worker_is_told_every_amount():
    node_type = NodeType(
        "gpu",
        Resources.of(CPU=4, GPU=2, memory=1 << 30, object_store_memory=100_000_000, accelerator=3),
        labels=(("zone", "a"), ("tier", "gold")),
    )
    assert command.worker_argv(launch(node_type), "/bin/ray") == [
        "/bin/ray",
        "start",
        "--block",
        "--address=192.0.2.9:6379",
        "--dashboard-agent-listen-port=0",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--include-log-monitor=false",
        "--num-cpus=4",
        "--num-gpus=2",
        "--memory=1073741824",
        "--object-store-memory=100000000",
        '--resources={"accelerator": 3}',
        "--labels=zone=a,tier=gold",
    ]


def test_what_is_undeclared_is_zero_and_the_object_store_is_small():
    argv = command.worker_argv(launch(NodeType("bare", Resources())), "ray")
    assert argv[-4:] == ["--num-cpus=0", "--num-gpus=0", "--memory=0", "--object-store-memory=80000000"]


def test_start_params_win_and_an_empty_one_is_a_bare_flag():
    params = (("include-log-monitor", "true"), ("ray-debugger-external", ""))
    argv = command.worker_argv(launch(NodeType("t", Resources(), start_params=params)), "ray")
    assert "--include-log-monitor=true" in argv
    assert "--include-log-monitor=false" not in argv
    assert argv[-1] == "--ray-debugger-external"


def test_decimals_are_passed_on_by_the_python_beside_ray():
    spec = launch(NodeType("t", Resources.of(CPU=2, disk=0.5, whole=3)))
    argv = command.worker_argv(spec, "/opt/bin/ray")
    assert argv[:4] == ["/opt/bin/python3", "-c", raystart.START, "start"]
    assert argv[-1] == '--resources={"disk": 0.5, "whole": 3}'
    assert command.worker_argv(spec, "ray")[0] == "python3"
    head = HeadOptions(Resources.of(disk=0.5))
    assert head_argv("ray", head, port=1, temp_dir=Path("t"), client_port=2)[:5] == ["python3", "-c", raystart.START, "start", "--head"]


@pytest.mark.parametrize("units", [1, 3, 5_000, 5_700, 6_900, 12_345, 29 * 10**8 + 3, 2**49 + 1])
def test_ray_which_cuts_off_reads_the_planned_amount(units):
    said = json.loads(raystart.resource_flags(Resources({"disk": units}))["resources"])["disk"]
    assert int(said * 10_000) == units


def test_every_fraction_of_what_ray_has_whole_is_refused_by_name():
    with pytest.raises(InvalidRequest) as refused:
        raystart.resource_flags(Resources.of(CPU=1.5, memory=0.5, neuron_cores=0.5, x=0.5, GPU=2))
    assert [problem.path for problem in refused.value.problems] == ["resources.CPU", "resources.memory", "resources.neuron_cores"]


def test_a_worker_knows_who_it_is_whatever_our_own_environment_says():
    base = {"PATH": "/bin", "RAY_ADDRESS": "elsewhere", "RAY_OVERRIDE_RESOURCES": '{"CPU": 9}', "RAY_CLOUD_INSTANCE_ID": "we", "A": "1"}
    node_type = NodeType("spotty", Resources(), is_spot=True, env=(("A", "2"), ("RAY_NODE_TYPE_NAME", "liar")))
    assert command.worker_env(launch(node_type), base) == {
        "PATH": "/bin",
        "A": "2",
        "RAY_USAGE_STATS_ENABLED": "0",
        **raystart.CONNECT,
        "RAY_CLOUD_INSTANCE_ID": "i-1",
        "RAY_NODE_TYPE_NAME": "spotty",
        "RAY_NODE_MARKET_TYPE": "spot",
    }


def test_a_head_runs_without_rays_autoscaler(tmp_path):
    options = HeadOptions(start_params=(("include-dashboard", "true"),), env=(("A", "1"),))
    assert head_argv("ray", options, port=1234, temp_dir=tmp_path, client_port=5678) == [
        "ray",
        "start",
        "--head",
        "--block",
        "--no-monitor",
        "--port=1234",
        f"--temp-dir={tmp_path}",
        "--include-dashboard=true",
        "--ray-client-server-port=5678",
        "--dashboard-agent-listen-port=0",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--num-cpus=0",
        "--num-gpus=0",
        "--memory=0",
        "--object-store-memory=80000000",
    ]
    assert head_env(options, {"RAY_ADDRESS": "x"}) == {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "GRPC_ENABLE_FORK_SUPPORT": "0",
        **raystart.CONNECT,
        "A": "1",
        "RAY_CLOUD_INSTANCE_ID": "head",
        "RAY_NODE_TYPE_NAME": "head",
    }
