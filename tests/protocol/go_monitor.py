"""The monitor of tests/protocol/go as a program: generated, built and kept under build/ by the hash of all that it is made of.

As a program it does so and prints the path.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests/protocol/go"
PROTO = ROOT / "proto"
MODULE = "rayscaler.io/tests/protocol/monitor"
GENERATED = {name: f"rayscaler/api/{name}/v1/{name}.proto" for name in ("head", "gcs")}
"""Go package under gen/: its proto."""
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""With the environment's own Go first, which `make` puts there where the machine has none."""


def build() -> Path:
    """Return the program, building it unless one of the same sources is there: a minute at first, seconds with Go's own cache warm."""
    sources = [*sorted(SOURCE.glob("*.go")), SOURCE / "go.mod", SOURCE / "go.sum", *(PROTO / each for each in GENERATED.values())]
    digest = hashlib.blake2b(b"\0".join(each.name.encode() + b"\0" + each.read_bytes() for each in sources), digest_size=8).hexdigest()
    directory = ROOT / "build/protocol-go" / digest
    program = directory / "monitor"
    if not program.exists():
        shutil.rmtree(directory.parent, ignore_errors=True)
        directory.mkdir(parents=True)
        for each in sources[: -len(GENERATED)]:
            shutil.copy(each, directory)
        _generate(directory)
        _run(directory, "go", "build", "-o", "monitor.part", ".")
        (directory / "monitor.part").rename(program)
    return program


def check() -> str:
    """Return what gofmt has to say of the sources; raises with what go vet has."""
    directory = build().parent
    _run(directory, "go", "vet", ".")
    gofmt = Path(_run(directory, "go", "env", "GOROOT").strip()) / "bin/gofmt"  # not every Go has it on the path
    return _run(directory, str(gofmt), "-l", *(str(each) for each in sorted(SOURCE.glob("*.go"))))


def _generate(directory: Path) -> None:
    """Generate Go from the protos with the plugin that go.mod pins."""
    _run(directory, "go", "build", "-o", "protoc-gen-go", "google.golang.org/protobuf/cmd/protoc-gen-go")
    packages = [f"--go_opt=M{proto}={MODULE}/gen/{name}" for name, proto in GENERATED.items()]
    plugin = ["--plugin=protoc-gen-go=./protoc-gen-go", "--go_out=.", f"--go_opt=module={MODULE}"]
    _run(directory, sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *plugin, *packages, *GENERATED.values())


def _run(directory: Path, *argv: str) -> str:
    # The machine's own Go is taken whatever its version is, rather than another one fetched; flags of the user's own could change what is built.
    env = {**os.environ, "PATH": PATH, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0", "GOWORK": "off"}
    program = shutil.which(argv[0], path=PATH)
    if program is None:
        raise FileNotFoundError(f"{argv[0]} is not there: `make` installs Go where it is missing")
    done = subprocess.run([program, *argv[1:]], cwd=directory, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv[:3])} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    print(build())
