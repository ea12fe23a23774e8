"""`spec.executor`: which executor a definition names. Knows the words and their rules, and no executor."""

import re
from collections.abc import Sequence

from rayscaler.config.reader import Reader

LOCAL, KUBERNETES, COMMAND = "local", "k8s", "exec"
"""Executors; COMMAND is a plugin that the service starts."""
PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_UNIX = re.compile(r"unix:///[!-~]{1,106}")
"""A socket's path has 107 characters at most."""
_DNS = re.compile(r"dns:///([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):" + PORT)
_WORD = re.compile(r"[^\x00]{1,4096}")
MOST_WORDS = 100
ADDRESS_RULE = "must be a plugin's address: unix:///PATH or dns:///HOST:PORT"
RULE = "must be local, a plugin's address (unix:///PATH or dns:///HOST:PORT), or its command (exec: [COMMAND, ...])"


def read(reader: Reader, value: object, has: str) -> tuple[str, tuple[str, ...]]:
    """Return the executor, and the command of a plugin that is to be started, for a service that has this executor."""
    path = "spec.executor"
    if has == KUBERNETES:
        if value not in (None, KUBERNETES):
            reader.problem(path, value, f"this service has {KUBERNETES!r} only")
        return KUBERNETES, ()
    if value is None or value == LOCAL:
        return LOCAL, ()
    if isinstance(value, str):
        if value == KUBERNETES:
            reader.problem(path, value, "is for the service of a namespace: `rayscaler -n NAMESPACE serve`; this one is of a machine")
        elif not is_address(value):
            reader.problem(path, value, RULE)
        else:
            return value, ()
        return LOCAL, ()
    if not isinstance(value, dict):
        reader.problem(path, value, RULE)
        return LOCAL, ()
    return COMMAND, _command(reader, f"{path}.{COMMAND}", reader.mapping(path, value, {COMMAND}).get(COMMAND))


def is_address(text: str) -> bool:
    """Whether a plugin can be at it."""
    return bool(_UNIX.fullmatch(text) or _DNS.fullmatch(text))


def is_plugin(executor: str) -> bool:
    """Whether it is none of those that are built in."""
    return executor not in {LOCAL, KUBERNETES}


def _command(reader: Reader, path: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 0 < len(value) <= MOST_WORDS:
        reader.problem(path, value, f"must be a list of 1 to {MOST_WORDS} texts, the command and its arguments; no shell reads it")
        return ()
    words = []
    for index, word in enumerate(value):
        if isinstance(word, str) and _WORD.fullmatch(word):
            words.append(word)
        else:
            reader.problem(f"{path}[{index}]", word, "must be text of 1 to 4096 characters, without NUL; put it in quotes")
    return tuple(words)
