"""Which rights are missing: judged by the API server's own answer, asked seldom, told once."""

import asyncio

import msgspec
import pytest

from rayscaler.errors import Unavailable
from rayscaler.k8s import rights
from rayscaler.k8s.objects import RulesReview
from rayscaler.k8s.rights import Right, Rights
from tests.k8s import bed

pytestmark = pytest.mark.tier("unit")

CREATE, GET = Right("", "pods", "create"), Right("", "pods", "get")
NAMED = Right("", "secrets", "get", "tls")


def rule(verbs, resources, groups=("",), names=()):
    return {"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources), "resourceNames": list(names)}


def review(*rules, **more) -> RulesReview:
    return msgspec.convert({"status": {"resourceRules": list(rules), **more}}, RulesReview)


def test_the_list_of_what_is_needed_is_the_role():
    given = {
        Right(group, resource, verb, name)
        for each in bed.ROLE["rules"]
        for group in each["apiGroups"]
        for resource in each["resources"]
        for verb in each["verbs"]
        for name in each.get("resourceNames", [""])
    }
    assert set(rights.NEEDED) == given
    assert len(rights.NEEDED) == len(given)


@pytest.mark.parametrize(
    ("rules", "lacking"),
    [
        pytest.param([], (CREATE, GET, NAMED), id="nothing is given"),
        pytest.param([rule(["*"], ["*"], ["*"])], (), id="everything is given"),
        pytest.param([rule(["create"], ["pods"]), rule(["get"], ["pods", "secrets"])], (), id="several rules add up"),
        pytest.param([rule(["create", "get"], ["pods"], ["apps"])], (CREATE, GET, NAMED), id="another API group is another kind"),
        pytest.param([rule(["get", "create"], ["pods", "secrets"], names=["tls"])], (CREATE, GET), id="a right on one name is none on all"),
        pytest.param([rule(["get", "create"], ["pods", "secrets"], names=["other"])], (CREATE, GET, NAMED), id="nor one on another name"),
        pytest.param([rule(["create", "get"], ["pods/log"])], (CREATE, GET, NAMED), id="a part of an object is not the object"),
    ],
)
def test_what_a_review_lacks(rules, lacking):
    assert rights.missing(review(*rules), (CREATE, GET, NAMED)) == lacking


def test_where_the_api_server_cannot_tell_nothing_is_said_to_be_missing():
    assert rights.missing(review(incomplete=True), (CREATE,)) == ()


def test_what_is_missing_is_told_with_the_rule_that_gives_it():
    assert rights.sentences((CREATE, GET, NAMED), "ml") == (
        (
            "may not create, get pods in ml: add to the Role of the service's account: "
            '{apiGroups: [""], resources: [pods], verbs: [create, get]}'
        ),
        (
            "may not get secrets/tls in ml: add to the Role of the service's account: "
            '{apiGroups: [""], resources: [secrets], resourceNames: [tls], verbs: [get]}'
        ),
    )


class Asked:
    """A client that answers the question."""

    def __init__(self) -> None:
        self.answer = review(rule(["create", "get"], ["pods"]))
        self.is_down = False
        self.times: list[float] = []
        self.on_denied = lambda: None

    async def create(self, kind, namespace, body):
        assert (kind.plural, namespace, body) == ("selfsubjectrulesreviews", "", {"spec": {"namespace": "ml"}})
        self.times.append(asyncio.get_running_loop().time())
        if self.is_down:
            raise Unavailable("away")
        return self.answer


@pytest.mark.looptime
async def test_it_is_asked_at_the_start_after_a_refusal_and_once_a_minute_and_told_at_a_change():
    client, told = Asked(), []
    task = asyncio.create_task(Rights(client, "ml", told=told.append, needed=(CREATE, GET)).run())
    await asyncio.sleep(150)
    assert (client.times, told) == ([0, 60, 120], [()])
    client.answer = review(rule(["get"], ["pods"]))
    for _ in range(100):  # a crowd of refusals
        client.on_denied()
        await asyncio.sleep(0.01)
    await asyncio.sleep(9)
    assert client.times == [0, 60, 120, 150, 155]
    assert [len(each) for each in told] == [0, 1]
    client.is_down = True
    await asyncio.sleep(60)
    client.is_down, client.answer = False, review(rule(["*"], ["pods"]))
    await asyncio.sleep(60)
    assert [len(each) for each in told] == [0, 1, 0]
    assert not task.done()
    task.cancel()


@pytest.mark.tier("cluster")
@pytest.mark.timeout(180)
async def test_on_a_real_api_server_a_right_that_is_taken_away_is_named_and_given_back_is_well(namespace):
    told: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
    role = namespace.path("roles/rayscaler-0", "rbac.authorization.k8s.io/v1")
    async with bed.entered(namespace) as client, asyncio.timeout(60.0):
        task = asyncio.create_task(Rights(client, namespace.name, told=told.put_nowait, again_s=0.4, soonest_s=0.1).run())
        assert await told.get() == ()
        rules = [{**each, "verbs": [verb for verb in each["verbs"] if verb != "watch"]} for each in bed.ROLE["rules"]]
        await namespace.api.patch(role, {"rules": rules})
        (lacking, *_) = await told.get()
        assert lacking.startswith(f"may not watch pods in {namespace.name}: add to the Role")
        await namespace.api.patch(role, {"rules": bed.ROLE["rules"]})
        assert await told.get() == ()
        assert not task.done()
        task.cancel()
