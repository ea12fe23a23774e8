"""Where Ray's authentication token comes from. Owns Ray's order of places; never shows the token itself."""

from collections.abc import Mapping
from pathlib import Path

DEFAULT_PLACE = ".ray/auth_token"
"""Below the home directory; Ray's own place."""


class TokenSource:
    """Ray's token as `ray start` would find it: RAY_AUTH_TOKEN, else the file RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token.

    A head of Ray 2.60 demands the token as soon as one exists where it runs, so whatever is found is sent,
    unless RAY_AUTH_MODE says `disabled`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def read(self) -> str:
        """Return the token of this moment, or "" when there is none."""
        if self._environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
            return ""
        inline = self._environ.get("RAY_AUTH_TOKEN", "").strip()
        if inline:
            return inline
        try:
            return self._file().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def describe(self) -> str:
        """Say where the token comes from, for people who must put it right."""
        if self._environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
            return "none sent, RAY_AUTH_MODE is disabled"
        if self._environ.get("RAY_AUTH_TOKEN", "").strip():
            return "from RAY_AUTH_TOKEN"
        return f"from {self._file()}" if self.read() else f"none found, neither in RAY_AUTH_TOKEN nor in {self._file()}"

    def _file(self) -> Path:
        named = self._environ.get("RAY_AUTH_TOKEN_PATH", "")
        return Path(named) if named else Path(self._environ.get("HOME", "/")) / DEFAULT_PLACE
