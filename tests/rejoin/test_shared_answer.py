"""Workers that share a machine and its start lock share the answer to their question for the cluster id: each question costs Ray's import."""

from pathlib import Path

import pytest

from tests.rejoin import standin
from tests.rejoin.supervised import Supervised

pytestmark = pytest.mark.tier("protocol")

WORKERS = 6
ASK_S = "0.4"
"""What Ray's import takes: all of them have connected by then, which look for a head every tenth of a second."""


@pytest.fixture
async def workers(tmp_path, gcs):
    made = []
    for number in range(WORKERS):
        directory = tmp_path / str(number)
        directory.mkdir()
        ray = standin.Ray(directory)
        env = {**ray.env, "STAND_IN_ID": str(tmp_path / "id"), "STAND_IN_ASKED": str(tmp_path / "asked"), "STAND_IN_ASK_S": ASK_S}
        (tmp_path / "id").write_text("aa11")
        made.append(Supervised(directory, "worker", ray.argv, env, gcs=gcs.address, lock=str(tmp_path / "lock")))
    yield made
    for each in made:
        await each.close()


def questions(tmp_path: Path) -> int:
    log = tmp_path / "asked"
    return len(log.read_text().splitlines()) if log.exists() else 0


async def test_few_ask_and_all_follow_over_ever_new_heads(tmp_path, gcs, workers):
    for each in workers:
        await each.until("running")
    for number in range(3):
        asked, told = questions(tmp_path), [len(each.states) for each in workers]
        gcs.close()
        for each, after in zip(workers, told, strict=True):
            await each.until("waiting", after=after)
        (tmp_path / "id").write_text(f"bb{number}")
        gcs.open()
        for each, after in zip(workers, told, strict=True):
            assert (await each.until("running", after=after))["cluster_id"] == f"bb{number}", "no answer of an earlier head is taken"
        assert 1 <= questions(tmp_path) - asked <= WORKERS / 2, "those who connected before an answer take it over"
