"""Numbers in sentences for people."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return "1 node" or "2 nodes"; `plural` where that takes more than an s."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
