"""A GrpcStream over an RPC that fails in the ways of grpc.aio, one at a time."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.loopback.running import background, until
from tests.unit.transport.streams import Scribe
from tunneler.addresses import Identity, Role
from tunneler.errors import TransportError
from tunneler.transport.grpcio.stream import GrpcStream, describe
from tunneler.transport.seam import Peer

END = object()
"""Anything but bytes: grpc.aio.EOF."""
PEER = Peer(Identity(Role.SERVER, "somebody"), "memory")


class Rpc:
    """Reads what the test puts in; writes wait for the test."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[object] = asyncio.Queue()
        self.written: list[bytes] = []
        self.may_write = asyncio.Event()
        self.write_failure: Exception | None = None
        self.finished = False
        self.stream = GrpcStream(PEER, self.read, self.write, self.finish)
        self.scribe = Scribe(self.stream)

    async def read(self) -> object:
        item = await self.incoming.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def write(self, batch: bytes) -> None:
        try:
            await self.may_write.wait()
        except asyncio.CancelledError:
            if self.write_failure is not None:
                raise self.write_failure from None
            raise
        if self.write_failure is not None:
            raise self.write_failure
        self.written.append(batch)

    async def finish(self) -> None:
        self.finished = True


async def test_end_of_the_peer() -> None:
    rpc = Rpc()
    async with background(rpc.stream.carry(rpc.scribe)):
        rpc.incoming.put_nowait(b"one")
        rpc.incoming.put_nowait(END)
        await until(lambda: rpc.scribe.closed)
    assert rpc.scribe.batches == [b"one"]
    assert rpc.scribe.error is None


@pytest.mark.parametrize(
    "failure", [grpc.aio.UsageError("RPC already finished."), asyncio.InvalidStateError("gone")]
)
@pytest.mark.parametrize("where", ["read", "write"])
async def test_failure_of_the_rpc(failure: Exception, where: str) -> None:
    rpc = Rpc()
    async with background(rpc.stream.carry(rpc.scribe)):
        if where == "read":
            rpc.incoming.put_nowait(failure)
        else:
            rpc.write_failure = failure
            rpc.may_write.set()
            rpc.scribe.send(b"batch")
        await until(lambda: rpc.scribe.closed)
    assert isinstance(rpc.scribe.error, TransportError)
    assert str(failure) in str(rpc.scribe.error)


@pytest.mark.parametrize("failure", [None, grpc.aio.UsageError("RPC already finished.")])
async def test_cancellation_is_not_lost(failure: Exception | None) -> None:
    """A write that fails because the RPC was cancelled is not what the role asked for."""
    rpc = Rpc()
    async with background(rpc.stream.carry(rpc.scribe)) as (carrying,):
        await asyncio.sleep(0)
        rpc.scribe.send(b"in flight")
        await asyncio.sleep(0.01)
        rpc.write_failure = failure
        carrying.cancel()
        await asyncio.wait((carrying,))
        assert carrying.cancelled()
    assert rpc.scribe.closed == 1
    assert isinstance(rpc.scribe.error, TransportError)


@pytest.mark.parametrize("writable", [True, False])
async def test_close_does_not_wait_for_ever(writable: bool) -> None:
    """Neither for the peer's end, nor for a write that the peer does not take."""
    rpc = Rpc()
    if writable:
        rpc.may_write.set()
    async with background(rpc.stream.carry(rpc.scribe)):
        await asyncio.sleep(0)
        rpc.scribe.send(b"first")
        rpc.stream.close(b"last")
        await until(lambda: rpc.scribe.closed, 2)
    assert rpc.written == ([b"first", b"last"] if writable else [])
    assert rpc.finished is writable
    assert rpc.scribe.error is None


async def test_an_error_of_the_receiver_is_not_hidden() -> None:
    """It is a bug of ours, and not a lost stream."""
    rpc = Rpc()

    def fail(batch: bytes) -> None:
        raise LookupError("a bug")

    rpc.scribe.when_received = fail
    rpc.incoming.put_nowait(b"batch")
    with pytest.raises(ExceptionGroup) as raised:
        await rpc.stream.carry(rpc.scribe)
    assert raised.group_contains(LookupError)
    assert rpc.scribe.closed == 1


def test_describe_is_one_line() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "failed\n  to connect", ""
    )
    assert describe(error) == "UNAVAILABLE: failed to connect"
    assert describe(ValueError("other")) == "other"
