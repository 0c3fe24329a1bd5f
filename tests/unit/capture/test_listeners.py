from __future__ import annotations

import socket

import pytest

from tunneler.capture import listeners
from tunneler.capture.listeners import has_connections, is_heard


@pytest.mark.parametrize(
    ("family", "host"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, ""), (socket.AF_INET6, "::1"), (socket.AF_INET6, "")],
)
def test_a_port_where_somebody_listens(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        assert is_heard(port)
    assert not is_heard(port)


def test_a_connection_does_not_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as near, server.accept()[0]:
            server.close()
            assert not is_heard(address[1])
            assert not is_heard(near.getsockname()[1])
            assert has_connections(address[1])
            assert has_connections(near.getsockname()[1])


def test_a_listener_has_no_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not has_connections(server.getsockname()[1])


def test_a_bound_socket_does_not_listen() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not is_heard(bound.getsockname()[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [("NETLINK_SOCK_DIAG", 31), ("SOCK_DIAG_BY_FAMILY", 99)],
    ids=["no sockets of that kind", "an error"],
)
def test_a_kernel_that_cannot_tell(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
    monkeypatch.setattr(listeners, name, value)
    assert is_heard(1)
