"""Who plays which role: ours, or JavaScript's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.interop.node import PROXY, RELAY, Node, credentials, node
from tests.loopback.running import until
from tests.loopback.trio import HOST, ROUTES, Trio, stage, usable


class Cast(NamedTuple):
    """The roles that are not ours."""

    server: bool = False
    proxy: bool = False
    announced: bool = True
    """Whether there is a proxy at all; a server of theirs can dial a target itself."""


CASTS: Final = {
    "their proxy": Cast(proxy=True),
    "their server": Cast(server=True),
    "their server and proxy": Cast(server=True, proxy=True),
    "their server, dialling": Cast(server=True, announced=False),
}


class Company(NamedTuple):
    """One of each role, linked."""

    trio: Trio
    server: Node | None
    proxy: Node | None


@asynccontextmanager
async def company(
    pki: Path, cast: Cast, transport: str, *, target: int | None = None, **timeouts: float
) -> AsyncIterator[Company]:
    """Every role at work, whoever plays it.

    Args:
        target: the port that a server of theirs dials itself, for want of a proxy.
        timeouts: of our roles.
    """
    async with stage(pki, **timeouts) as trio, AsyncExitStack() as stack:
        address = f"{HOST}:{trio.server_port}"
        server = theirs = None
        if cast.server:
            arguments = ["--listen", address, *credentials(pki, "server")]
            if target is not None and not cast.announced:
                arguments += ["--target", str(target)]
            server = await stack.enter_async_context(node(RELAY, arguments))
            await server.said("listening")
        else:
            trio.start_server(transport=transport)
        if cast.proxy:
            theirs = await stack.enter_async_context(their_proxy(pki, address))
        elif cast.announced:
            trio.start_proxy(transport=transport)
        trio.start_client(transport=transport)
        await until(lambda: usable(trio.client))
        if cast.announced:
            await until(lambda: trio.routed() == len(trio.servers))
            if server is not None:
                await server.said("registered")
        yield Company(trio, server, theirs)
        for client in trio.clients:
            await client.finish()
        for proxy in trio.proxies:
            await proxy.finish()


@asynccontextmanager
async def their_proxy(pki: Path, server: str, *arguments: str, status: int = 0) -> AsyncIterator[Node]:
    """A proxy of theirs, linked if there is a server."""
    routes = [f"--route={route['virtual']}={route['real']}" for route in ROUTES]
    flags = ["--server", server, "--id", "grpc-js", *credentials(pki, "proxy"), *routes, *arguments]
    async with node(PROXY, flags, status) as proxy:
        yield proxy
