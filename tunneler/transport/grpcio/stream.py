"""One gRPC stream as a :class:`BatchStream`: a reader task and a writer task.

Both belong to the coroutine that runs :meth:`GrpcStream.carry`. While a write is in flight
the stream is congested, so that frames gather above the seam and leave as one message: what
grpc.aio costs, it costs for each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from tunneler.errors import TransportError
from tunneler.transport.seam import BatchReceiver, Peer

FAREWELL_SECONDS = 2.0
"""How long a peer may take to end its half of a stream after we ended ours."""

Read = Callable[[], Awaitable[object]]
Write = Callable[[bytes], Awaitable[None]]
Finish = Callable[[], Awaitable[None]]


class GrpcStream:
    """See :class:`tunneler.transport.seam.BatchStream`.

    Args:
        read: awaits the next message; anything but bytes is the end.
        write: sends one message.
        finish: ends our half of the stream.
    """

    def __init__(self, peer: Peer, read: Read, write: Write, finish: Finish) -> None:
        self._peer = peer
        self._read = read
        self._write = write
        self._finish = finish
        self._batch: bytes | None = None
        self._last = b""
        self._closing = False
        self._carrying = False
        self._work = asyncio.Event()
        self._farewell = asyncio.timeout(None)

    @property
    def peer(self) -> Peer:
        return self._peer

    @property
    def congested(self) -> bool:
        return self._batch is not None

    def send(self, batch: bytes) -> None:
        if self._batch is not None or self._closing:
            raise RuntimeError("send on a stream that is congested or closed")
        self._batch = batch
        self._work.set()

    def close(self, last: bytes = b"") -> None:
        if not self._closing:
            self._closing = True
            self._last = last
            self._work.set()
            if self._carrying:
                self._limit_farewell()

    def end_now(self) -> None:
        """Wait no longer for the peer's half: everything of ours has been sent."""
        self._farewell.reschedule(asyncio.get_running_loop().time())

    async def carry(self, receiver: BatchReceiver) -> None:
        """Move batches until either side ends the stream; then say so to the receiver."""
        error: Exception | None = None
        try:
            error = await self._carry(receiver)
        except asyncio.CancelledError:
            # How grpc.aio tells a server that the call is lost, and a role that it is to end.
            error = TransportError("the stream was cut off")
            raise
        finally:
            self._closing = True
            self._carrying = False
            receiver.stream_closed(error)

    async def _carry(self, receiver: BatchReceiver) -> TransportError | None:
        """Returns what went wrong, if something did."""
        error: TransportError | None = None
        try:
            async with self._farewell, asyncio.TaskGroup() as tasks:
                self._carrying = True
                if self._closing:
                    self._limit_farewell()
                writer = tasks.create_task(self._write_batches(receiver))
                await self._read_batches(receiver)
                writer.cancel()
        except* TimeoutError:
            pass  # we closed, and the peer did not end its half in time
        except* grpc.aio.AioRpcError as group:
            error = TransportError(describe(group.exceptions[0]))
        except* (grpc.aio.UsageError, asyncio.InvalidStateError, grpc.aio.InternalError) as group:
            # How grpc.aio reports a write or read on an RPC that the peer has just ended.
            error = TransportError(f"the stream was lost: {group.exceptions[0]}")
        raise_if_cancelled()  # TaskGroup prefers the writer's error to our cancellation
        return error

    def _limit_farewell(self) -> None:
        self._farewell.reschedule(asyncio.get_running_loop().time() + FAREWELL_SECONDS)

    async def _read_batches(self, receiver: BatchReceiver) -> None:
        while isinstance(batch := await self._read(), bytes):
            receiver.batch_received(batch)

    async def _write_batches(self, receiver: BatchReceiver) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if self._batch is not None:
                await self._write(self._batch)
                self._batch = None
                if not self._closing:
                    receiver.room_made()
            if self._closing:
                break
        if self._last:
            await self._write(self._last)
        await self._finish()


def raise_if_cancelled() -> None:
    """Be cancelled after all, where something on the way has swallowed it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def describe(error: BaseException) -> str:
    """gRPC's account of a failure in one line."""
    if isinstance(error, grpc.aio.AioRpcError):
        details = " ".join((error.details() or "").split())
        return f"{error.code().name}: {details}" if details else error.code().name
    return str(error)
