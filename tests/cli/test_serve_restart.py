"""`rayscaler serve` killed and started again while its definition is bad: the last good state stays in force (CD-9)."""

import signal

import pytest

from tests.cli.test_serve_follows import Serving
from tests.config.test_file import text

pytestmark = pytest.mark.tier("protocol")


@pytest.fixture
def begin(tmp_path):
    """Start the service on the state that is there; the files stay as they are unless it is the first time."""
    made = []

    def start(*, is_first: bool = False) -> Serving:
        made.append(Serving(tmp_path, is_first=is_first))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.wait()
        each.process.stdout.close()


def test_killed_and_started_again_with_a_bad_file_and_a_missing_one_it_serves_says_so_and_takes_the_mended_one(begin):
    first = begin(is_first=True)
    one, two = first.files
    assert first.address
    one.write_text(text("a", name="one", maxWorkers=-2, idleTimeout="soon"))
    first.until_log("definition.refused", "cluster=one")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    two.unlink()
    again = begin()
    assert again.address, again.log_path.read_text()
    for words in ("warning: ", "spec.maxWorkers", "spec.idleTimeout", "starts as it was good last", f"{two}: cannot be read"):
        assert words in again.log_path.read_text()
    again.until_log("definition.refused", "cluster=one")
    for cluster, words in (("one", "spec.idleTimeout"), ("two", "cannot be read")):
        told = again.status(cluster)
        assert "is not taken" in told
        assert "stays in force" in told
        assert words in told
    one.write_text(text("a", "b", name="one"))
    again.until_log("definition.taken", "cluster=one")
    assert "is not taken" not in again.status("one")
    again.process.send_signal(signal.SIGTERM)
    assert again.process.wait(timeout=30) == 0


def test_without_a_good_one_before_it_refuses_with_every_problem_of_every_file(begin, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(text("a", name=name, maxWorkers=-2))
    refused = begin()
    assert refused.process.wait(timeout=30) == 2
    told = [line for line in refused.log_path.read_text().splitlines() if line.startswith("error: ")]
    assert len(told) == 2
    assert not [line for line in refused.log_path.read_text().splitlines() if "Traceback" in line]
