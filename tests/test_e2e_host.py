"""What the tests on a real node say of a machine that lacks something: what it is, why, and what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import host

pytestmark = pytest.mark.tier("unit")

ROOT = Path(__file__).parents[1]
APT = """#!/bin/sh
echo "$@" >>{log}
case "$*" in *install*) [ {first} = 0 ] || [ -e {updated} ] || exit {first}; {then} ;; *) touch {updated}; exit {update} ;; esac
"""


class Machine:
    """A machine whose only programs lie in one directory."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs, self._log, self._monkeypatch = directory / "bin", directory / "log", monkeypatch
        self.programs.mkdir()
        where = {program: program if "/" not in program else str(self.programs / Path(program).name) for program in host.PROGRAMS}
        monkeypatch.setattr(host, "PROGRAMS", {where[program]: package for program, package in host.PROGRAMS.items()})
        monkeypatch.setattr(host, "PATH", str(self.programs))
        monkeypatch.setattr(host, "hierarchies", lambda: iter([Path("/sys/fs/cgroup")]))
        monkeypatch.setenv("PATH", f"{self.programs}:/usr/bin:/bin")
        self.is_root(True)

    def is_root(self, is_so: bool) -> None:
        self._monkeypatch.setattr(os, "geteuid", lambda: 0 if is_so else 1000)

    def has(self, *names: str) -> None:
        for name in names:
            self.put(name, "#!/bin/sh\n")

    def put(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def has_apt(self, *, first: int = 0, update: int = 0, brings: tuple[str, ...] = ()) -> None:
        """Have an apt-get whose installs fail with `first` until it was updated, and which then brings programs."""
        then = "; ".join(["true", *(f"cp {self.programs}/apt-get {self.programs}/{each}" for each in brings)])
        self.put("apt-get", APT.format(log=self._log, updated=self._log.with_name("updated"), first=first, update=update, then=then))

    def asked(self) -> list[str]:
        """What apt-get was asked for."""
        return self._log.read_text().splitlines() if self._log.exists() else []


ALL = sorted({Path(each).name for each in host.PROGRAMS})


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_nothing_is_missing_where_all_programs_are_and_none_is_installed(machine):
    machine.has(*ALL)
    machine.has_apt()
    assert host.missing() == ""
    assert machine.asked() == []


def test_nobody_but_root_may_do_it_and_nothing_is_installed_for_others(machine):
    machine.is_root(False)
    machine.has_apt()
    assert host.missing() == "a real node needs root: containerd and the kubelet mount, and make namespaces and control groups"
    assert machine.asked() == []


def test_without_apt_get_it_says_which_of_debian_s_packages_have_what_is_missing(machine, monkeypatch):
    machine.has(*set(ALL) - {"runc", "bridge"})
    monkeypatch.setenv("PATH", str(machine.programs))
    said = "a real node needs what Debian has in containernetworking-plugins, runc, and this machine has no apt-get to install it"
    assert host.missing() == said


def test_what_is_missing_is_installed_and_nothing_else(machine):
    machine.has(*set(ALL) - {"nft"})
    machine.has_apt(brings=("nft",))
    assert host.missing() == ""
    assert machine.asked() == ["-qq install --yes --no-install-recommends nftables"]


def test_lists_of_packages_that_are_old_are_fetched_anew(machine):
    machine.has(*set(ALL) - {"containerd", "nft"})
    machine.has_apt(first=100, brings=("nft", "containerd"))
    assert host.missing() == ""
    install = "-qq install --yes --no-install-recommends containerd nftables"
    assert machine.asked() == [install, "-qq update", install]


def test_a_program_more_is_installed_where_that_can_be_done(machine, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(machine.programs))
        assert not host.has("buildah", "buildah"), "without apt-get"
    machine.has_apt(first=100, brings=("buildah",))
    machine.is_root(False)
    assert not host.has("buildah", "buildah")
    assert machine.asked() == []
    machine.is_root(True)
    assert host.has("buildah", "buildah")
    assert host.has("buildah", "buildah")
    install = "-qq install --yes --no-install-recommends buildah"
    assert machine.asked() == [install, "-qq update", install]


NOT_ROOT = "import os, runpy, sys; os.geteuid = lambda: 1000; sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__')"
LACK = "a real node needs root: containerd and the kubelet mount, and make namespaces and control groups"


@pytest.mark.tier("protocol")
@pytest.mark.parametrize("ci", [False, True], ids=["at home", "in CI"])
def test_where_there_can_be_no_node_it_is_said_why_and_nothing_looks_run(ci):
    env = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "true"} if ci else {})

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", NOT_ROOT, *argv], cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    prepared = run("tests.e2e", "prepare")
    assert (prepared.returncode, prepared.stderr) == (0, f"the tests on a real node cannot run here: {LACK}\n")
    tests = run("pytest", "tests/e2e/test_bed.py", "-q", "-k", "code or strictest")
    assert tests.returncode == (1 if ci else 0)
    assert (f"NOT RUN: 2 tests: {LACK}\n" in tests.stdout) == (not ci), tests.stdout
    assert f"{LACK}\n" in tests.stdout


FAILS = "a real node needs what Debian has in ip-and-more, and apt-get does not install it; try: apt-get install ip-and-more"


@pytest.mark.parametrize("how", [{"first": 100, "update": 100}, {"first": 100}, {}], ids=["no mirror", "no such package", "brings nothing"])
def test_where_apt_get_does_not_help_it_says_what_to_try(machine, how):
    machine.has(*set(ALL) - {"ip"})
    machine.has_apt(**how)
    assert host.missing() == FAILS.replace("ip-and-more", "iproute2")


def test_without_control_groups_there_is_no_node(machine, monkeypatch):
    machine.has(*ALL)
    monkeypatch.setattr(host, "hierarchies", lambda: iter(()))
    assert host.missing() == "a real node needs control groups, and none are mounted under /sys/fs/cgroup"
