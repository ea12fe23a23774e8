"""A plugin at an address, over TLS: both ends know each other, and nobody else is let in. Our own authority makes no certificates of callers."""

import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rayscaler import errors
from rayscaler.clock import SystemClock
from rayscaler.plugin.connection import Address
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.serve import PluginServer, _credentials
from rayscaler.settings import TlsFiles, PluginSettings
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from tests.plugin.door import MAX_MESSAGE_BYTES, QUICK

pytestmark = pytest.mark.tier("protocol")


def certificate(names: list[str], issuer=None):
    """Return a certificate and its key, signed by itself or by an issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    signer, signer_name = (key, subject) if issuer is None else (issuer[1], issuer[0].subject)
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    return made, key


def written(directory, name: str, made) -> tuple[Any, Any]:
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    cert.write_bytes(made[0].public_bytes(serialization.Encoding.PEM))
    key.write_bytes(made[1].private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return cert, key


async def test_an_address_is_dialled_over_tls_and_both_ends_are_known_to_each_other(tmp_path):
    ca = certificate(["authority"])
    ca_file, _ = written(tmp_path, "ca", ca)
    own, mine = written(tmp_path, "plugin", certificate(["localhost"], ca)), written(tmp_path, "caller", certificate(["caller"], ca))
    settings = PluginSettings.from_env(
        {"RAYSCALER_PLUGIN_CERT": str(own[0]), "RAYSCALER_PLUGIN_KEY": str(own[1]), "RAYSCALER_PLUGIN_CA": str(ca_file)}
    )
    server = PluginServer(FakeExecutor(FakeMachines(SystemClock())), name="tls.rayscaler.io")
    port = await server.start("127.0.0.1:0", _credentials(settings))

    async def list_by(tls: TlsFiles, host: str = "localhost") -> None:
        executor = PluginExecutor(Address(f"dns:///{host}:{port}", max_message_bytes=MAX_MESSAGE_BYTES, tls=tls), timings=QUICK)
        try:
            assert await executor.list("c") == []
        finally:
            await executor.close()

    await list_by(TlsFiles(ca_file, *mine))
    with pytest.raises(errors.Unavailable):  # it asks for a certificate
        await list_by(TlsFiles(ca_file))
    with pytest.raises(errors.Unavailable):  # it has none of that name
        await list_by(TlsFiles(ca_file, *mine), "127.0.0.1")
    stranger, _ = written(tmp_path, "stranger", certificate(["stranger"]))
    with pytest.raises(errors.Unavailable):
        await list_by(TlsFiles(stranger, *mine))
    with pytest.raises(errors.Denied, match="RAYSCALER_EXECUTOR_CA is not set"):
        await list_by(TlsFiles())
    await server.stop()
