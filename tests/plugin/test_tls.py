"""A plugin at an address, over TLS: both ends know each other, and nobody else is let in."""

import pytest

from rayscaler import errors
from rayscaler.clock import SystemClock
from rayscaler.plugin.connection import Address
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.serve import PluginServer, _credentials
from rayscaler.settings import PluginSettings, TlsFiles
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from tests.plugin.certificates import certificate, written
from tests.plugin.door import MAX_MESSAGE_BYTES, QUICK

pytestmark = pytest.mark.tier("protocol")


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
