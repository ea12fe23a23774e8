"""How the small API servers of these tests listen: on a socket of loopback, at the same port again after they were away."""

from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def listen(routes: Iterable[tuple[str, Handler]], port: int) -> tuple[web.AppRunner, int]:
    """Serve paths, whatever the method, at a port, or any if it is 0; return what stops it, and the port."""
    app = web.Application()
    for path, handler in routes:
        app.router.add_route("*", path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)  # aiohttp takes 0 for no limit
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    return runner, site._server.sockets[0].getsockname()[1]
