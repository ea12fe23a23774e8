"""Mode worker against a stand-in GCS and a stand-in `ray start`: what is done when the head goes, returns, or never does."""

import os
import signal
import sys

import pytest

from rayscaler import rejoin
from tests.rejoin import standin
from tests.rejoin.supervised import Supervised, soon, tree

pytestmark = pytest.mark.tier("protocol")


@pytest.fixture
async def start(tmp_path, gcs, ray):
    """Start supervisors of the stand-in `ray start`; each is ended."""
    made = []

    def supervised(name="w", behaviour="", argv=None, **options):
        directory = tmp_path / name
        directory.mkdir()
        env = {**ray.env, "STAND_IN_RAY": behaviour}
        made.append(Supervised(directory, "worker", argv or ray.argv, env, **{"gcs": gcs.address, **options}))
        return made[-1]

    yield supervised
    for each in made:
        await each.close()


async def test_a_worker_starts_once_its_head_answers_and_says_so(start, gcs, ray):
    gcs.close()
    worker = start()
    assert (await worker.until("waiting"))["detail"] == f"the head at {gcs.address} does not answer"
    assert ray.starts == 0
    gcs.open()
    said = await worker.until("running")
    assert (said["starts"], said["cluster_id"]) == (1, "aa11")
    assert worker.pid_of("raylet") in tree(said["pid"])
    assert "Ray runtime started." in worker.log()
    await soon(lambda: worker.zombies() == [])


async def test_a_head_may_have_a_name(start, gcs):
    await start(gcs=f"localhost:{gcs.port}").until("running")
    nameless = start("nameless", gcs=f"nowhere.invalid:{gcs.port}")
    await nameless.until("waiting")
    nameless.tell(signal.SIGTERM)
    assert await nameless.ended() == rejoin.ENDED


async def test_the_id_is_asked_with_the_python_that_ray_s_own_script_names(tmp_path, start, gcs, ray):
    home = tmp_path / "apps"
    home.mkdir()
    scripts = {
        "python-of-ray": f'#!/bin/sh\nPYTHONPATH={ray.env.pop("PYTHONPATH")} exec {sys.executable} "$@"\n',
        "ray": f"#!{home}/python-of-ray\n{standin.RAY}",
    }
    for name, text in scripts.items():
        (home / name).write_text(text)
        (home / name).chmod(0o755)
    ray.env["PATH"] = f"{home}:{ray.env['PATH']}"
    worker = start(argv=["ray", *ray.argv[-1:]])
    await worker.until("running")
    told = len(worker.states)
    gcs.drop()
    await worker.until("waiting", after=told)
    await worker.until("running", after=told)
    assert ray.starts == 1


async def test_settings_and_pings_are_acknowledged(start, gcs):
    worker = start()
    await worker.until("running")
    gcs.send(standin.PING + b"12345678" + standin.SETTINGS)
    await soon(lambda: standin.PING_ACK + b"12345678" in gcs.heard and gcs.heard.count(standin.SETTINGS_ACK) == 2)
    assert gcs.heard.startswith(rejoin.PREFACE)
    assert gcs.accepted == 1


async def test_a_new_id_brings_a_new_raylet_under_the_same_supervisor(start, gcs, ray):
    worker = start(behaviour="scatters")
    first = await worker.until("running")
    await soon(lambda: any(name.startswith("sleep") for name in worker.names()))  # the last that it starts, below its raylet
    before = set(tree(worker.pid))
    gcs.close()
    ray.name("bb22")
    await worker.until("waiting")
    assert set(tree(worker.pid)) == before
    gcs.open()
    after = await worker.until("running", 2)
    assert after["cluster_id"] == "bb22"
    assert [said["state"] for said in worker.states if said["starts"] == 2] == ["rejoining", "running"]
    assert first["pid"] != after["pid"]
    await soon(lambda: not before & set(tree(worker.pid)))
    await soon(lambda: worker.zombies() == [])


async def test_ten_new_ids_in_a_row(start, gcs, ray):
    worker = start()
    for number in range(10):
        await worker.until("running", number + 1)
        gcs.close()
        ray.name(f"id{number}")
        gcs.open()
    assert (await worker.until("running", 11))["cluster_id"] == "id9"
    assert ray.starts == 11
    assert worker.pid_of("raylet"), "and there is one"
    await soon(lambda: worker.zombies() == [])


@pytest.mark.parametrize("how", ["drop", "goaway", "restart"])
async def test_the_same_id_leaves_the_raylet_alone(start, gcs, ray, how):
    worker = start()
    await worker.until("running")
    raylet = worker.pid_of("raylet")
    for number in range(3):
        told = len(worker.states)
        if how == "goaway":
            gcs.send(standin.GOAWAY)
        elif how == "drop":
            gcs.drop()
        else:
            gcs.close()
            gcs.open()
        await worker.until("waiting", after=told)
        await worker.until("running", after=told)
        assert gcs.accepted >= number + 2
    assert (worker.pid_of("raylet"), ray.starts) == (raylet, 1)


async def test_a_port_that_answers_without_a_word_is_no_head_yet(start, gcs, ray):
    gcs.greeting = b""
    worker = start()
    assert "does not answer" in (await worker.until("waiting"))["detail"]
    assert ray.starts == 0


async def test_a_head_that_tells_no_id_yet_is_asked_again(start, gcs, ray):
    worker = start()
    await worker.until("running")
    ray.id_path.rename(ray.id_path.with_suffix(".away"))
    told = len(worker.states)
    gcs.drop()
    while "does not tell its cluster id" not in (said := await worker.until("waiting", after=told))["detail"]:
        told = worker.states.index(said) + 1
    ray.id_path.with_suffix(".away").rename(ray.id_path)
    await worker.until("running", after=told)
    assert ray.starts == 1


async def test_it_tries_for_ever_and_ends_at_once_when_told(start, gcs):
    worker = start()
    await worker.until("running")
    gcs.close()
    await worker.until("waiting")
    worker.tell(signal.SIGTERM)
    assert await worker.ended() == rejoin.ENDED
    assert worker.names() == []


async def test_sigterm_is_forwarded_and_nothing_is_started_after_it(start, gcs, ray):
    worker = start()
    await worker.until("running")
    worker.tell(signal.SIGTERM)
    worker.tell(signal.SIGTERM)
    assert await worker.ended() == rejoin.ENDED
    assert worker.states[-1]["state"] == "ending"
    assert ray.starts == 1


async def test_sigterm_during_a_rejoin_ends_it_at_once(start, gcs, ray):
    worker = start()
    await worker.until("running")
    gcs.close()
    ray.name("bb22")
    gcs.open()
    await worker.until("rejoining")
    worker.tell(signal.SIGTERM)
    assert await worker.ended() == rejoin.ENDED
    assert ray.starts <= 2


async def test_sigterm_while_it_starts_ends_it_at_once(start, ray):
    worker = start(behaviour="slow")
    await soon(lambda: ray.starts == 1)
    worker.tell(signal.SIGTERM)
    assert await worker.ended() == rejoin.ENDED


async def test_a_killed_raylet_is_restarted_three_times_in_place(start, ray):
    worker = start()
    for number in range(4):
        await worker.until("running", number + 1)
        os.kill(worker.pid_of("raylet"), signal.SIGKILL)
    assert await worker.ended() == 1
    assert ray.starts == 4
    assert "restart 3 of 3 in place" in worker.log()


async def test_a_raylet_that_dies_without_its_head_is_no_failure(start, gcs, ray):
    worker = start()
    for number in range(5):
        await worker.until("running", number + 1)
        gcs.close()
        await worker.until("waiting", number + 1)
        os.kill(worker.pid_of("raylet"), signal.SIGKILL)
        await soon(lambda: worker.states[-1]["pid"] == 0)
        gcs.open()
    await worker.until("running", 6)


async def test_a_drained_raylet_is_not_started_again(start, ray):
    worker = start()
    await worker.until("running")
    os.kill(worker.pid_of("raylet"), signal.SIGTERM)
    assert await worker.ended() == rejoin.DRAINED
    assert worker.states[-1]["detail"] == rejoin.DRAIN_DETAIL
    assert ray.starts == 1


async def test_a_drained_raylet_stays_ended_when_a_new_head_comes(start, gcs, ray):
    worker = start()
    await worker.until("running")
    gcs.close()
    ray.name("bb22")
    raylet = worker.pid_of("raylet")
    os.kill(raylet, signal.SIGTERM)
    await soon(lambda: tree(worker.pid).get(raylet, ("", "Z", 0))[1] == "Z")
    gcs.open()
    assert await worker.ended() == rejoin.DRAINED
    assert ray.starts == 1


async def test_a_first_start_that_fails_ends_with_its_own_code(start, ray):
    worker = start(behaviour="fails")
    assert await worker.ended() == 3
    assert ray.starts == 1
    assert "\nstarts\n" in worker.log()


async def test_a_command_that_cannot_be_run_has_a_code_of_its_own(start):
    worker = start(argv=["/nowhere/ray"])
    assert await worker.ended() == rejoin.NOT_RUNNABLE
    assert "cannot go on" in worker.log()


async def test_the_prelude_runs_once_before_the_first_start(start, gcs, ray, tmp_path):
    worker = start(prelude=f"echo prepared >> {tmp_path}/prelude")
    await worker.until("running")
    gcs.close()
    ray.name("bb22")
    gcs.open()
    await worker.until("running", 2)
    assert (tmp_path / "prelude").read_text() == "prepared\n"
    assert await start("other", prelude="exit 7").ended() == rejoin.PRELUDE_FAILED


async def test_starts_with_one_lock_go_one_at_a_time(start, ray, tmp_path):
    lock = str(tmp_path / "lock")
    slow = start("slow", "slow", lock=lock)
    await soon(lambda: ray.starts == 1)
    good = start("good", lock=lock)
    assert (await good.until("starting"))["pid"] == 0
    slow.tell(signal.SIGTERM)
    await slow.ended()
    await good.until("running")
    assert ray.starts == 2


async def test_waiting_for_the_lock_does_not_hold_up_sigterm(start, ray, tmp_path):
    lock = str(tmp_path / "lock")
    start("slow", "slow", lock=lock)
    await soon(lambda: ray.starts == 1)
    waits = start("waits", lock=lock)
    assert (await waits.until("starting"))["pid"] == 0
    waits.tell(signal.SIGTERM)
    assert await waits.ended() == rejoin.ENDED
    assert ray.starts == 1


async def test_it_stays_small_and_lets_go_of_what_it_opens(start, gcs, ray):
    worker = start()
    await worker.until("running")
    for number in range(3):
        gcs.close()
        ray.name(f"id{number}")
        gcs.open()
        await worker.until("running", number + 2)
    files = await worker.open_files()
    for number in range(3, 8):
        gcs.close()
        ray.name(f"id{number}")
        gcs.open()
        await worker.until("running", number + 2)
    assert await worker.open_files() <= files
    assert worker.rss_kib() <= 15 * 1024


@pytest.mark.parametrize(
    "args",
    [[], ["worker"], ["worker", "--", "x"], ["worker", "--gcs", "host", "--", "x"], ["keep", "--gcs", "h:1", "--", "x"], ["keep", "--"]],
    ids=" ".join,
)
def test_wrong_arguments_are_refused(args, capsys):
    assert rejoin.main(args) == rejoin.USAGE
    assert "wrong arguments" in capsys.readouterr().err
