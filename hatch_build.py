"""Compiles what rayscaler has in C, when it is built or installed. Without a compiler it is told, and done without."""

import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILE = "deploy/native.py"


class Compile(BuildHookInterface[Any]):
    """Leaves the compiled file beside its source, where editable installations find it too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Compile; a wheel with compiled code is for machines like this one, with any Python."""
        why = runpy.run_path(str(Path(self.root) / COMPILE))["compile_native"](Path(self.root))
        if why:
            self.app.display_warning(f"plans are improved in Python alone, some four times as slowly: {why}")
            return
        build_data["artifacts"].append("rayscaler/planner/mix/*.so")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
