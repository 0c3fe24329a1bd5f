"""gRPC beside a socket of systemd's, in a network namespace of its own; the tests run this as a program.

    python -m tests.unit.transport.adopting SCENARIO MIGRATE

prints what came of it as JSON. Peers are processes, as gRPC calls of one process share connections.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import uvloop

from testbed.processes import wait_until
from tunneler.addresses import Identity, Role
from tunneler.errors import ConfigError
from tunneler.roles.health import health_calls
from tunneler.transport.grpcio.settings import configure_environment
from tunneler.transport.seam import Attach, Security

PORT: Final = 8081
PATIENCE: Final = 20.0
CALL: Final = """
import sys, threading, time
import grpc
failed = []

def call():
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel("127.0.0.1:8081", options=options) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            check(b"", timeout=15, wait_for_ready=sys.argv[2] == "patient")
        except grpc.RpcError as error:
            failed.append(error.details())

callers = [threading.Thread(target=call) for _ in range(int(sys.argv[1]))]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
print(len(failed))
"""
"""So many calls at once; prints how many failed. A patient one tries again."""

reports: list[tuple[str, Any]] = []


def of_systemd(host: str = "::", port: int = PORT) -> socket.socket:
    """As ListenStream=8081, BindIPv6Only=both and ReusePort=yes make one."""
    sock = socket.socket(socket.AF_INET6)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((host, port))
    sock.listen(4096)
    return sock


@asynccontextmanager
async def listening(sock: socket.socket) -> AsyncIterator[Any]:
    """A listener of links beside the socket; a service that has its own copy, as after exec."""
    from tunneler.transport.grpcio.listener import GrpcListener

    def identify(_: bytes) -> Identity:
        return Identity(Role.CLIENT, "x")

    def report(event: str, **fields: object) -> None:
        reports.append((event, fields))

    attach: Attach = None  # type: ignore[assignment]  # nobody opens a link here
    listener = GrpcListener(Security(None, identify), report)
    async with listener.serve([sock.dup()], attach, health_calls(lambda: False)):
        yield listener


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


@contextmanager
def calling(number: int, manner: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", CALL, str(number), manner], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


async def outcome(process: subprocess.Popen[str]) -> int:
    """How many calls failed; the event loop turns meanwhile."""
    said, _ = await asyncio.to_thread(process.communicate, None, PATIENCE)
    return int(said)


def waiting(sock: socket.socket) -> int:
    from tunneler.transport.grpcio.adoption import waiting_connections

    return waiting_connections(sock)


def plain_connections(number: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE) for _ in range(number)]


# Scenarios.


async def queued(released: Callable[[], Any] = yes, manner: str = "hasty") -> object:
    """Calls that queue before the service is there."""
    with of_systemd() as sock, calling(20, manner) as calls:
        await asyncio.to_thread(wait_until, lambda: waiting(sock) == 20, PATIENCE, "20 connections")
        async with listening(sock) as listener:
            await listener.take_over(released)
            return {"failed": await outcome(calls), "reports": reports}


async def queued_patiently() -> object:
    return await queued(manner="patient")


async def queued_while_systemd_looks() -> object:
    return await queued(released=no)


async def beside() -> object:
    """Whom new connections go to before, while and after gRPC listens; nothing is taken over."""
    with of_systemd() as sock:
        before = plain_connections(10)
        counts = [waiting(sock)]
        async with listening(sock):
            during = plain_connections(50)
            counts.append(waiting(sock))
        after = plain_connections(10)
        counts.append(waiting(sock))
        for application in (*before, *during, *after):
            application.close()
        return counts


async def again() -> object:
    """A service that is taken over from, ends, and starts anew; somebody calls at each point."""
    failed = []
    with of_systemd() as sock:
        for _ in range(3):
            with calling(5, "patient") as calls:
                await asyncio.to_thread(wait_until, lambda: waiting(sock) == 5, PATIENCE, "5 connections")
                async with listening(sock) as listener:
                    await listener.take_over(yes)
                    failed.append(await outcome(calls))
                    with calling(5, "hasty") as more:
                        failed.append(await outcome(more))
    return failed


def killed() -> object:
    """A service that dies with connections that it never accepted: they wait for the next."""
    with of_systemd() as sock:
        child = os.fork()
        if not child:
            from tunneler.transport.grpcio.adoption import FIRST, SECOND, attach

            attach(sock, SECOND)
            theirs = of_systemd()  # as gRPC binds; it accepts nothing
            attach(sock, FIRST)
            sock.shutdown(socket.SHUT_RD)
            sock.listen(4096)
            applications = plain_connections(10)
            os._exit(0 if waiting(theirs) == len(applications) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return waiting(sock)


async def owned_by_another() -> object:
    """A socket of another user."""
    os.seteuid(1)
    sock = of_systemd()
    os.seteuid(0)
    with sock:
        try:
            async with listening(sock):
                return os.fstat(sock.fileno()).st_uid
        except ConfigError as error:
            return str(error)


async def specific_address() -> object:
    """An IPv4 address, as a unit has to write it."""
    with of_systemd("::ffff:127.0.0.1") as sock, calling(5, "hasty") as calls:
        async with listening(sock) as listener:
            await listener.take_over(yes)
            return await outcome(calls)


def main() -> None:
    configure_environment()
    scenario, migrate = sys.argv[1:3]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/net/ipv4/tcp_migrate_req").write_text(migrate, encoding="ascii")
    result = globals()[scenario]()
    print(json.dumps(uvloop.run(result) if asyncio.iscoroutine(result) else result))


if __name__ == "__main__":
    main()
