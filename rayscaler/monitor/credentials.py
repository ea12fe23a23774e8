"""What the monitor shows the service, and by what it knows it: two files that others renew. Never shows the token itself."""

from dataclasses import dataclass
from pathlib import Path

from rayscaler import errors
from rayscaler.settings import MonitorSettings


@dataclass(frozen=True)
class Credentials:
    """The authority that vouches for the service, and this pod's own token, if it has one."""

    ca: Path
    token: Path | None = None

    def roots(self) -> bytes:
        """Return the authority's certificates of this moment; raises Unavailable, as the file may still come."""
        found = _read(self.ca, "--ca")
        if b"-----BEGIN CERTIFICATE-----" not in found:
            raise errors.Unavailable(f"--ca: {self.ca} has no certificate; give it the ca.crt of the service's ConfigMap rayscaler-ca")
        return found

    def metadata(self) -> list[tuple[str, str]]:
        """Return what goes with each call: the token of this moment, as kubelet replaces it; raises Unavailable."""
        if self.token is None:
            return []
        token = _read(self.token, "--token").strip()
        if not token or not token.isascii() or not token.decode().isprintable():
            raise errors.Unavailable(f"--token: {self.token} holds no token")
        return [("authorization", f"Bearer {token.decode()}")]


def of(settings: MonitorSettings) -> Credentials | None:
    """Return the credentials of the settings, None for plain text; raises InvalidRequest for a token that plain text would give away."""
    if settings.ca is None:
        if settings.token is not None:
            raise errors.InvalidRequest("--token: is sent over TLS only; give --ca too")
        return None
    return Credentials(settings.ca, settings.token)


def advice(text: str, credentials: Credentials | None) -> str:
    """Return what gRPC's words on a connection that failed mean for credentials, and whose move it is; "" where they mean nothing for them."""
    if credentials is None:
        return "; a service that speaks TLS closes plain text: give --ca and --token" if "Socket closed" in text else ""
    return next((f"; {said.format(ca=credentials.ca)}" for words, said in _ADVICE.items() if words in text), "")


_ADVICE = {
    "certificate has expired": "the service's certificate has expired: its log says why it was not renewed",
    "Hostname Verification": "the service's certificate is not for this address: dial it by the name of its Service",
    "CERTIFICATE_VERIFY_FAILED": "{ca} does not vouch for the service's certificate: it must be the ca.crt of ConfigMap rayscaler-ca in the service's namespace",
    "security handshaker": "{ca} cannot be read as certificates",
    "WRONG_VERSION_NUMBER": "the service speaks plain text: turn its TLS on, or leave --ca and --token out",
}
"""From gRPC's words; the first that is found counts."""


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.Unavailable(f"{option}: {path} cannot be read: {error.strerror}") from error
