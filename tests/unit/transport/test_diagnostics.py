from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.loopback.running import until
from tunneler.transport.grpcio.diagnostics import core_messages

HANDSHAKE = (
    b"I1122 18:45:16.500977    7209 ssl_transport_security.cc:2563] Handshake failed with error "
    b"SSL_ERROR_SSL: error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER\n"
)
OTHER = b"E1122 18:45:16.500977   12345 chttp2_transport.cc:42] something of note\n"

Reports = list[tuple[str, str]]


@contextmanager
def standard_error() -> Iterator[int]:
    """Descriptor 2 is a pipe of the test's own; yields the reading end."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    saved = os.dup(2)
    os.dup2(writer, 2)
    os.close(writer)
    try:
        yield reader
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(reader)


def read_all(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""


def fill(descriptor: int) -> None:
    """Write until the pipe is full."""
    with suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 4096 + b"\n")


async def test_lines_of_the_core_become_events() -> None:
    reports: Reports = []
    with standard_error() as passed_on, core_messages(lambda *report: reports.append(report)):
        os.write(2, HANDSHAKE + OTHER)
        await until(lambda: len(reports) == 2)
        assert read_all(passed_on) == b""
    name, reason = reports[0]
    assert name == "handshake_failed"
    assert reason.endswith("WRONG_VERSION_NUMBER")
    assert "error:" not in reason
    assert reports[1] == ("grpc_message", "something of note")


async def test_other_lines_pass_through() -> None:
    reports: Reports = []
    with standard_error() as passed_on, core_messages(lambda *report: reports.append(report)):
        os.write(2, b"Traceback (most recent call last):\n" + OTHER + b'  File "x"\n')
        await until(lambda: reports)
        assert read_all(passed_on) == b'Traceback (most recent call last):\n  File "x"\n'


async def test_a_line_in_pieces() -> None:
    reports: Reports = []
    with standard_error(), core_messages(lambda *report: reports.append(report)):
        for byte in HANDSHAKE:
            os.write(2, bytes([byte]))
            await asyncio.sleep(0)
        await until(lambda: reports)
        assert [name for name, _ in reports] == ["handshake_failed"]


@pytest.mark.parametrize("last", [b"", b"no end of line"])
async def test_what_is_left_at_the_end_is_not_lost(last: bytes) -> None:
    """Written after the loop's last look, with more than one read's worth, and an unfinished line."""
    reports: Reports = []
    lines = b"plain\n" * 100
    with standard_error() as passed_on:
        with core_messages(lambda *report: reports.append(report)):
            os.write(2, lines + OTHER * 3 + last)
        passed = read_all(passed_on)
        assert passed.startswith(lines)
        assert passed[len(lines) :].strip() == last
    assert len(reports) == 3


async def test_standard_error_is_restored() -> None:
    with standard_error() as passed_on:
        with pytest.raises(KeyError), core_messages(lambda *_: None):
            raise KeyError
        os.write(2, b"after\n")
        assert read_all(passed_on) == b"after\n"
        assert os.get_inheritable(2)


async def test_two_at_once_end_in_any_order() -> None:
    """Whoever ends first does not fail for the other's sake."""
    reports: Reports = []
    with standard_error():
        outer = core_messages(lambda *report: reports.append(report))
        inner = core_messages(lambda *report: reports.append(report))
        with outer:
            with inner:
                os.write(2, OTHER)
                await until(lambda: reports)
            os.write(2, OTHER)
            await until(lambda: len(reports) == 2)


async def test_writers_never_wait() -> None:
    """A full pipe loses lines rather than stop the core's threads, or us."""
    with standard_error(), core_messages(lambda *_: None):
        fill(2)
