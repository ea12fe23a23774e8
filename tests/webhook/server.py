"""A server of HTTP, which shares nothing with the client that is tested: it reads one request per connection, byte for byte."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Server:
    """Notes each request, and says what it is told to say."""

    status: str = "204 No Content"
    more: str = "Content-Length: 0\r\n"
    before: list[str] = field(default_factory=list)
    """What it says to the first requests instead; "" is nothing, for as long as it is asked."""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
            self.requests.append((first, headers, await reader.readexactly(int(headers.get("content-length", 0)))))
            status = self.before.pop(0) if self.before else self.status
            if status:
                writer.write(f"HTTP/1.1 {status}\r\n{self.more}\r\n".encode())
                await writer.drain()
            else:
                await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def served(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    made = Server()
    server = await asyncio.start_server(made.take, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made
