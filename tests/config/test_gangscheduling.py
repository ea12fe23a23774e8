"""`spec.gangScheduling`: what is taken, and every problem with path, value and rule (complaint I2)."""

import pytest

from rayscaler.config import native
from rayscaler.errors import InvalidRequest
from rayscaler.model.scheduling import GangScheduler, GangScheduling

pytestmark = pytest.mark.tier("unit")


def read(value: object, executor: str = "k8s") -> GangScheduling | None:
    head = {"head": {"template": {"spec": {"containers": [{"name": "ray", "image": "ray"}]}}}}
    spec = {**head, "gangScheduling": value}
    return native.cluster(
        {"apiVersion": native.API_VERSION, "kind": "Cluster", "metadata": {"name": "a"}, "spec": spec}, executor
    ).gang_scheduling


def test_a_gang_scheduler_is_named_and_volcano_may_have_a_queue():
    assert read({"scheduler": "volcano", "queue": "research"}) == GangScheduling(GangScheduler.VOLCANO, "research")
    assert read({"scheduler": "scheduler-plugins"}) == GangScheduling(GangScheduler.SCHEDULER_PLUGINS)
    assert read(None) is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({}, "spec.gangScheduling.scheduler: None: is needed: volcano or scheduler-plugins"),
        ({"scheduler": "yunikorn"}, "spec.gangScheduling.scheduler: 'yunikorn'"),
        ({"scheduler": "scheduler-plugins", "queue": "q"}, "spec.gangScheduling.queue: 'q': is volcano's"),
        ({"scheduler": "volcano", "queue": "Q"}, "spec.gangScheduling.queue: 'Q'"),
        ({"scheduler": "volcano", "minMember": 3}, "spec.gangScheduling.minMember"),
        ("volcano", "spec.gangScheduling: 'volcano': must be a mapping"),
    ],
)
def test_a_problem_is_told_with_its_path(value, problem):
    with pytest.raises(InvalidRequest) as caught:
        read(value)
    assert any(str(each).startswith(problem) for each in caught.value.problems), caught.value


@pytest.mark.parametrize("executor", ["local", "unix:///run/x"])
def test_executors_without_pods_refuse_it(executor):
    with pytest.raises(InvalidRequest, match=r"spec.gangScheduling: .*: is for workers that are pods"):
        read({"scheduler": "volcano"}, executor)
