"""`rayscaler executor serve`: a built-in executor as a plugin, so that it can run elsewhere, and with other rights, than the service."""

import asyncio
from pathlib import Path

import click

from rayscaler.errors import InvalidRequest
from rayscaler.local.executor import LocalExecutor
from rayscaler.local.parts import only_one
from rayscaler.plugin.serve import PluginServer, serve_until_stopped
from rayscaler.processes import SystemProcesses
from rayscaler.settings import PluginSettings, ServiceSettings, kubeconfig

NAMES = {"local": "local.rayscaler.io", "k8s": "k8s.rayscaler.io"}
"""What each calls itself; another name would be another plugin."""


@click.group()
def executor() -> None:
    """Run an executor apart from the service."""


@executor.command()
@click.argument("kind", type=click.Choice(sorted(NAMES)))
@click.option(
    "--listen",
    default="",
    help="Address: unix:///PATH, or HOST:PORT over TLS; default RAYSCALER_PLUGIN_LISTEN. A service that starts it needs none.",
)
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where local workers are kept, in executor/; default ~/.rayscaler.")
@click.pass_context
def serve(context: click.Context, kind: str, listen: str, state_dir: Path | None) -> None:
    """Serve the executor KIND: local workers, or, with -n NAMESPACE before the command, workers as pods of that namespace."""
    settings = PluginSettings.from_env(listen=listen)
    if not settings.listen and not settings.is_child:
        raise InvalidRequest(
            "--listen: give an address, or set RAYSCALER_PLUGIN_LISTEN; or name the command in a definition's spec.executor.exec"
        )
    if kind == "local":
        asyncio.run(_local(settings, ServiceSettings.from_env(state_dir=state_dir).state_dir / "executor"))
        return
    if not context.obj:
        raise click.UsageError("k8s needs a namespace: give it with -n before the command")
    asyncio.run(_kubernetes(settings, context.obj))


async def _local(settings: PluginSettings, root: Path) -> None:
    with only_one(root / "executor.lock", "another executor"):
        made = LocalExecutor(SystemProcesses(), root / "run")
        await serve_until_stopped(PluginServer(made, name=NAMES["local"]), settings)


async def _kubernetes(settings: PluginSettings, namespace: str) -> None:
    from rayscaler.k8s.client import connect  # and with it a client of Kubernetes, half a second of imports
    from rayscaler.k8s.owned import OwnedExecutor

    client = await connect(kubeconfig())
    try:
        server = PluginServer(OwnedExecutor(client, namespace, on_end=lambda _: server.stopped.set()), name=NAMES["k8s"])
        await serve_until_stopped(server, settings)
    finally:
        await client.close()
