from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from unittest.mock import patch

import pytest

from tunneler.addresses import Endpoint
from tunneler.errors import Code
from tunneler.sockets.calls import (
    DialFailed,
    Failure,
    failure_of,
    pending_failure,
    prepare,
    reset,
    start_dial,
)


@dataclass(frozen=True)
class Keepalive:
    enabled: bool = True
    idle: float = 60.0
    interval: float = 15.4
    count: int = 4


def endpoint(host: str, port: int) -> Endpoint:
    return Endpoint(ip_address(host), port)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ECONNREFUSED, Code.REFUSED),
        (errno.EHOSTUNREACH, Code.UNREACHABLE),
        (errno.ETIMEDOUT, Code.TIMEOUT),
        (errno.EPERM, Code.DENIED),
        (errno.EMFILE, Code.LIMITED),
        (errno.ECONNRESET, Code.RESET_BY_PEER),
        (errno.EPIPE, Code.RESET_BY_PEER),
        (errno.EINVAL, Code.INTERNAL),
    ],
)
def test_failure_of(number: int, code: Code) -> None:
    assert failure_of(OSError(number, os.strerror(number))) == Failure(code, os.strerror(number))


def test_failure_without_a_number() -> None:
    assert failure_of(OSError("odd")) == Failure(Code.INTERNAL, "odd")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_dial(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as listener,
        start_dial(endpoint(host, listener.getsockname()[1]), Keepalive(), watched=False) as sock,
    ):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getpeername()[1] == sock.getsockname()[1]
            assert pending_failure(sock) is None
            assert not sock.getblocking()


def test_dial_refused_is_found_later() -> None:
    with start_dial(endpoint("127.0.0.1", 1), Keepalive(), watched=False) as sock:
        failure = pending_failure(sock)
        assert failure is not None
        assert failure.code is Code.REFUSED
        assert pending_failure(sock) is None  # the kernel tells once


@pytest.mark.parametrize(
    ("host", "code"), [("255.255.255.255", Code.DENIED), ("240.0.0.1", Code.UNREACHABLE)]
)
def test_dial_that_fails_at_once(host: str, code: Code) -> None:
    """What the kernel would say of these depends on the routes of the machine; so it is asked here."""
    number = errno.EACCES if code is Code.DENIED else errno.ENETUNREACH
    with patch("socket.socket.connect_ex", lambda *_: number), pytest.raises(DialFailed) as failed:
        start_dial(endpoint(host, 80), Keepalive(), watched=False)
    assert failed.value.code is code


def test_dial_without_descriptors() -> None:
    with (
        patch("socket.socket", side_effect=OSError(errno.EMFILE, "Too many open files")),
        pytest.raises(DialFailed) as failed,
    ):
        start_dial(endpoint("127.0.0.1", 80), Keepalive(), watched=False)
    assert failed.value.code is Code.LIMITED


def test_prepare() -> None:
    with socket.socket() as sock:
        prepare(sock, Keepalive())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4


@pytest.mark.parametrize("watched", [False, True])
def test_prepare_without_keepalive(watched: bool) -> None:
    """It is used all the same where it stands for the idle timeout."""
    with socket.socket() as sock:
        prepare(sock, Keepalive(enabled=False), watched=watched)
        assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is watched


def test_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            reset(sock)
            accepted.settimeout(5)
            with pytest.raises(ConnectionResetError):
                accepted.recv(1)
