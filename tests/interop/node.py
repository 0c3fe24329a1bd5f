"""Programs in JavaScript, run by node, and what they say."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.loopback.running import background, eventually

HERE = Path(__file__).parent
PROXY = HERE.parents[1] / "examples" / "grpc-js-proxy" / "proxy.js"
RELAY = HERE / "relay.mjs"
CALLER = HERE / "caller.mjs"
PATIENCE = 15.0
"""Seconds for a program to start, to say something, or to end."""


class Node:
    """A program at work."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def said(self, text: str, times: int = 1) -> None:
        """Wait for so many lines that begin with a text."""
        found = await eventually(
            lambda: sum(line.startswith(text) for line in self.lines) >= times, seconds=PATIENCE
        )
        assert found, f"not {times} times {text!r} in {self.lines}"

    async def stop(self, status: int = 0) -> None:
        """Send SIGTERM, as an operator would, and wait for the end."""
        if self.process.returncode is None:
            self.process.terminate()
        assert await self.ended() == status, self.lines

    async def ended(self) -> int:
        """The exit status, once there is one."""
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().rstrip())


@asynccontextmanager
async def node(script: Path, arguments: list[str], status: int = 0) -> AsyncIterator[Node]:
    """Run a script beside a block; at the end it must stop when asked to, with this exit status."""
    # What node finds deprecated is @grpc/grpc-js naming the server by its address (DEP0123).
    command = ("node", "--no-deprecation", str(script), *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
    program = Node(process)
    try:
        async with background(program.listen()) as (listening,):
            yield program
            await program.stop(status)
            await asyncio.wait((listening,), timeout=PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await program.ended()


def credentials(pki: Path, holder: str) -> list[str]:
    """The flags that all scripts have in common."""
    return [
        *("--cert", str(pki / holder / "cert.pem")),
        *("--key", str(pki / holder / "key.pem")),
        *("--ca", str(pki / "ca" / "cert.pem")),
    ]
