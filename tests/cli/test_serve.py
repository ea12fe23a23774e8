"""`rayscaler serve` as a process: two services never own the same workers."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tier("protocol")

DEFINITION = Path(__file__).parents[2] / "examples" / "demo.yaml"


def serve(state_dir: Path, *flags: str) -> subprocess.Popen[str]:
    argv = [
        sys.executable,
        "-m",
        "rayscaler",
        "serve",
        "-f",
        str(DEFINITION),
        "--listen",
        "127.0.0.1:0",
        "--state-dir",
        str(state_dir),
        *flags,
    ]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_second_service_on_the_same_state_directory_is_refused_and_one_after_a_kill_is_not(tmp_path):
    first = serve(tmp_path)
    try:
        assert "rayscaler listens at" in first.stdout.readline()
        second = serve(tmp_path)
        _, said = second.communicate(timeout=30)
        assert second.returncode == 1
        assert "another service holds it" in said
        assert "--state-dir" in said
        first.kill()
        first.communicate()
        third = serve(tmp_path, "--json")
        assert json.loads(third.stdout.readline())["service"].startswith("127.0.0.1:")
        third.send_signal(signal.SIGTERM)
        third.communicate(timeout=30)
        assert third.returncode == 0
    finally:
        first.kill()
        first.communicate()
