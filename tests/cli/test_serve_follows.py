"""`rayscaler serve` as a process follows its files: good edits at once, bad ones told by the log and by `rayscaler status`."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.config.test_file import text

pytestmark = pytest.mark.tier("protocol")

PATIENCE_S = 30.0


class Serving:
    """A service of two files, its address, and its log."""

    def __init__(self, base: Path, *, is_first: bool = True) -> None:
        self.files = [base / "one.yaml", base / "two.yaml"]
        for path, name in zip(self.files, ("one", "two"), strict=True):
            if is_first:
                path.write_text(text("a", name=name))
        flags = [part for path in self.files for part in ("-f", str(path))]
        self.log_path = base / "log"
        argv = [sys.executable, "-m", "rayscaler", "serve", *flags, "--listen", "127.0.0.1:0", "--state-dir", str(base / "state")]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
        self.address = "".join(self.process.stdout.readline().split()[-1:])

    def status(self, cluster: str) -> str:
        argv = [sys.executable, "-m", "rayscaler", "status", "--service", self.address, "--cluster", cluster]
        return subprocess.run(argv, capture_output=True, text=True, check=True, env={"COLUMNS": "500", "PATH": "/usr/bin"}).stdout

    def until_log(self, *words: str) -> str:
        """Wait for a line of the log with all of these words."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := [line for line in self.log_path.read_text().splitlines() if all(word in line for word in words)]):
            assert time.monotonic() < deadline, self.log_path.read_text()
            time.sleep(0.05)  # the service is another process, and a log file tells nobody when it grows
        return found[-1]


@pytest.fixture
def serving(tmp_path) -> Iterator[Any]:
    made = Serving(tmp_path)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def test_a_bad_edit_is_told_with_every_problem_until_it_is_mended_and_the_other_cluster_hears_nothing(serving):
    one, _ = serving.files
    one.write_text(text("a", name="one", maxWorkers=-2, idleTimeout="soon"))
    line = serving.until_log("definition.refused", "cluster=one")
    assert "spec.maxWorkers" in line
    assert "spec.idleTimeout" in line
    told = serving.status("one")
    for words in ("is not taken", "stays in force", "spec.maxWorkers", "spec.idleTimeout", str(one)):
        assert words in told
    assert "is not taken" not in serving.status("two")
    one.unlink()
    serving.until_log("definition.refused", "cannot be read")
    draft = one.with_name("draft")
    draft.write_text(text("a", "b", name="one"))
    draft.replace(one)
    serving.until_log("definition.taken", "cluster=one")
    assert "is not taken" not in serving.status("one")
    assert [line for line in serving.log_path.read_text().splitlines() if "definition." in line and "cluster=two" in line] == []
    assert serving.process.poll() is None
