"""How a problem names a place in a document and shows a value there: short and on one line, whatever stands there. Pure."""

import re
import reprlib

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""Keys that need no quotes in a path."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 100
_SHORT.maxlevel = 2


def value(found: object) -> str:
    """Show a value: short, also where YAML aliases make a small document a huge value."""
    try:
        return _SHORT.repr(found)[:200]
    except ValueError:  # Python writes out no integer of thousands of digits
        return "a huge number"


def under(path: str, key: object) -> str:
    """Return the path of what stands under `key`: `spec.head`, or `labels['ray.io/pool']` where the key is no plain word."""
    if not isinstance(key, str) or not _PLAIN.fullmatch(key):
        return f"{path}[{value(key)}]"
    return f"{path}.{key}" if path else key
