"""python proto/go/generate.py: writes the Go half of the executor protocol beside this file, with the plugins of protoc that go.mod pins."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PROTO = "rayscaler/api/executor/v1/executor.proto"
MODULE = "rayscaler.io/api"
PACKAGE = f"{MODULE}/executor/v1;executorv1"
TOOLS = {
    "protoc-gen-go": "google.golang.org/protobuf/cmd/protoc-gen-go",
    "protoc-gen-go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
}


def main() -> None:
    """Build the plugins, then run protoc with them."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # with the environment's own Go first
    # The Go that is there is taken whatever its version is, rather than another one fetched; flags of the user's own could change what is built.
    env = {**os.environ, "PATH": path, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0", "GOWORK": "off"}
    go = shutil.which("go", path=path)
    if go is None:
        raise FileNotFoundError("go is not there: `make` installs Go where it is missing")
    with tempfile.TemporaryDirectory() as built:
        subprocess.run([go, "build", "-o", f"{built}/", *TOOLS.values()], cwd=HERE, env=env, check=True)
        plugins = [f"--plugin={name}={built}/{name}" for name in TOOLS]
        outputs = [
            f"--{kind}_{what}" for kind in ("go", "go-grpc") for what in (f"out={HERE}", f"opt=module={MODULE}", f"opt=M{PROTO}={PACKAGE}")
        ]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE.parent}", *plugins, *outputs, PROTO], check=True)


if __name__ == "__main__":
    main()
