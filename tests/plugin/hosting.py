"""A service as far as a plugin sees it, as a process: python -m tests.plugin.hosting DIRECTORY COMMAND ... prints the plugin's pid once it serves."""

import asyncio
import sys
from pathlib import Path

from rayscaler.plugin.faults import State
from tests.plugin.stage import Stage


async def main(directory: str, *argv: str) -> None:
    """Host a plugin until this process is ended."""
    host = Stage(Path(directory)).host(*argv)
    running = asyncio.create_task(host.run())
    while (await host.changed()).state is not State.SERVING:
        pass
    print(host.status.pid, flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
