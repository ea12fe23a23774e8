"""`rayscaler completion`: what a shell needs to complete commands, flags, files and the names of clusters that are up."""

import sys

import click
from click.shell_completion import CompletionItem, get_completion_class

from rayscaler.cli.exits import Exit
from rayscaler.cli.up.cluster import names
from rayscaler.errors import RayscalerError
from rayscaler.settings import ServiceSettings

PROGRAM = "rayscaler"
VARIABLE = "_RAYSCALER_COMPLETE"
"""What click looks for in the environment of a program of this name."""
ENABLE = {
    "bash": 'eval "$(rayscaler completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(rayscaler completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "rayscaler completion fish | source   # in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\nFor all shells to come:\n" + "\n".join(f"  {line}" for line in ENABLE.values()))
@click.argument("shell", type=click.Choice(sorted(ENABLE)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete rayscaler's commands, flags and values."""
    made = get_completion_class(shell)
    if made is None:
        sys.exit(Exit.FAILED)
    click.echo(made(context.find_root().command, {}, PROGRAM, VARIABLE).source())


def clusters(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the clusters of the state directory that begin so; none where it cannot be read, for a shell has no place for an error."""
    try:
        found = names(ServiceSettings.from_env(state_dir=context.params.get("state_dir")))
    except (OSError, RayscalerError):
        return []
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]
