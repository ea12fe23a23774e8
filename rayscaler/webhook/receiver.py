"""Receiver: the one HTTP call, and whom it trusts. Redirects are not followed, cookies not kept, answers not read."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import certifi

from rayscaler import __version__
from rayscaler.errors import InvalidRequest, Problem, Unavailable
from rayscaler.settings import WebhookSettings

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
"""The caller's deadline counts."""
MOST_TOKEN = 8192
"""Characters of a token: servers take no longer headers."""


class Receiver:
    """Posts to the address of the settings; raises InvalidRequest where their files cannot be used."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._tls = trusted(settings.ca)
        if settings.token is not None:
            token(settings.token)
        self._proxy = _proxy(settings.url)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes) -> None:
        """Post JSON; raises Unavailable unless the answer is one of success. Within any time: give it a deadline."""
        headers = {"Content-Type": "application/json", "User-Agent": f"rayscaler/{__version__}"}
        try:
            if self._settings.token is not None:
                headers["Authorization"] = f"Bearer {token(self._settings.token)}"
            session = self._opened()
            async with session.post(
                self._settings.url, data=body, headers=headers, allow_redirects=False, timeout=_NO_TIMEOUT, proxy=self._proxy
            ) as answer:
                status = answer.status
        except InvalidRequest as error:
            raise Unavailable(str(error)) from error
        except (aiohttp.ClientConnectorError, OSError) as error:
            raise Unavailable(f"{self._settings.origin}: {type(error).__name__}: {error}") from error
        except (aiohttp.ClientError, ValueError) as error:  # their texts may have the whole address
            raise Unavailable(f"{self._settings.origin}: {type(error).__name__}") from error
        if not 200 <= status < 300:
            raise Unavailable(f"{self._settings.origin} answers {status}{', which is not followed' if 300 <= status < 400 else ''}")

    async def close(self) -> None:
        """Let go of the connection."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # There is little to tell: a connection that is kept may be gone when it is needed.
            connector = aiohttp.TCPConnector(ssl=self._tls, limit=1, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self._session


def trusted(ca: Path | None) -> ssl.SSLContext:
    """Return whom to trust: the machine's authorities, certifi's in an image that has none, and the one in a file of ours."""
    paths = ssl.get_default_verify_paths()
    context = ssl.create_default_context(cafile=None if paths.cafile or paths.capath else certifi.where())
    if ca is not None:
        try:
            context.load_verify_locations(cafile=ca)
        except OSError as error:  # ssl's own errors are some
            rule = f"cannot be used: {error.strerror or error}; give a PEM file with the certificate of an authority"
            raise InvalidRequest(Problem("RAYSCALER_WEBHOOK_CA", repr(str(ca)), rule)) from error
    return context


def token(path: Path) -> str:
    """Return the token in a file, as it is now; raises InvalidRequest."""
    rule = ""
    try:
        text = path.read_text("ascii").strip()
    except OSError as error:
        rule = f"cannot be read: {error.strerror or error}"
    except ValueError:
        rule = "is no token: it has other characters than ASCII"
    else:
        if not text or len(text) > MOST_TOKEN or not all("!" <= each <= "~" for each in text):
            rule = f"is no token: it must be one word of 1 to {MOST_TOKEN} characters"
    if rule:
        raise InvalidRequest(Problem("RAYSCALER_WEBHOOK_TOKEN_FILE", repr(str(path)), rule))
    return text


def _proxy(url: str) -> str | None:
    """Return the proxy on the way there, as the environment has it."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
