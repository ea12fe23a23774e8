"""How `rayscaler simulate` shows what a simulation came to: tables for people."""

from typing import Any
from rich.console import Group

def render(document: Any) -> Group:
    return Group(str(document))
