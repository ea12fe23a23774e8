"""What the exit codes of all commands mean: the only place that says so."""

from enum import IntEnum


class Exit(IntEnum):
    """An exit code, the same of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


MEANING = {
    Exit.DONE: "done; everything asked for is so",
    Exit.FAILED: "not done: something does not answer, refuses, or ended; a sentence on stderr says what to do",
    Exit.USAGE: "what was given must change: flags, a definition, a variable; every problem is told, nothing was done",
    Exit.INTERRUPTED: "interrupted by Ctrl-C or a signal; a sentence on stderr says how things stand",
}

EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code.value:<4} {text}" for code, text in MEANING.items())
"""For `rayscaler --help`."""
