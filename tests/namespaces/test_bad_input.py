"""Whatever a peer sends costs that peer its connection or its link, and nobody else anything."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import Host, Lab, wait_until
from testbed.suite import PORT, PROGRAMS, TARGET, Suite
from tests.namespaces.applications import Download, Pair, attempt, listen, receive_all, tcp_socket
from tunneler.addresses import ConnectionId, Endpoint
from tunneler.errors import Code
from tunneler.protocol.frames import (
    MAX_BATCH_ACCEPTED,
    MAX_PAYLOAD,
    PROTOCOL_VERSION,
    Ack,
    Data,
    Fin,
    Frame,
    Heartbeat,
    Hello,
    Open,
    OpenResult,
    Reset,
    Routes,
)
from tunneler.wire import tunnel_pb2 as pb
from tunneler.wire.codec import encode

ROOT = Path(__file__).parents[2]
ROGUE = "client/client#rogue"
HELLO = Hello(PROTOCOL_VERSION, "rogue")
MINE = ConnectionId(b"rogue connection")


@pytest.fixture(scope="module")
def honest(suite: Suite, lab: Lab) -> Iterator[Download]:
    """A download by somebody else, which runs all the time and is compared at its end."""
    with Download(Pair.open(lab.host("client"), lab.host("target"))) as download:
        yield download
        download.finish()


@pytest.fixture(autouse=True)
def unharmed(suite: Suite, honest: Download, client: Host) -> Iterator[None]:
    """After each test the download goes on, the same links are up, and the roles run."""
    links = {name: len(suite[name].events("link_up")) for name in ("client", "proxy")}
    honest.advance()
    yield
    honest.advance()
    assert {name: len(suite[name].events("link_up")) for name in links} == links
    assert all(member.running for member in suite.members.values())
    assert attempt(client, 81).result == "ECONNRESET"  # refused by the target: the path works


# ---------------------------------------------------------------------------- before there is a link


def server_address(suite: Suite) -> tuple[str, int]:
    return suite.lab.host("server").address_on("access"), PORT


def exchange(suite: Suite, client: Host, words: bytes) -> bytes:
    """Say something to the server's port and hear it out; a reset is as good as an end."""
    with tcp_socket(client) as sock:
        sock.connect(server_address(suite))
        try:
            sock.sendall(words)
            return receive_all(sock)
        except (ConnectionResetError, BrokenPipeError):
            return b""


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\nHost: server\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        os.urandom(100_000),
        bytes(100_000),
    ],
    ids=["http", "plaintext_http2", "random", "zeros"],
)
def test_no_tls(suite: Suite, client: Host, words: bytes) -> None:
    mark = suite.server.mark()
    exchange(suite, client, words)
    assert suite.server.wait_for("handshake_failed", since=mark)["level"] == "warning"


def test_a_port_scan(suite: Suite, client: Host) -> None:
    for _ in range(50):
        with tcp_socket(client) as sock:
            sock.connect(server_address(suite))


@pytest.fixture(scope="module")
def other_authority(suite: Suite) -> Path:
    directory = suite.directory / "other"
    suite.lab.host("server").run(PROGRAMS / "tunneler-gencerts", "--dir", directory)
    return directory


@pytest.mark.parametrize("has_certificate", [False, True], ids=["none", "another_authority"])
def test_a_wrong_certificate(
    suite: Suite, client: Host, other_authority: Path, has_certificate: bool
) -> None:
    context = ssl.create_default_context(cafile=suite.certificates / "ca" / "cert.pem")
    context.set_alpn_protocols(["h2"])
    if has_certificate:
        own = other_authority / "client"
        context.load_cert_chain(own / "cert.pem", own / "key.pem")
    mark = suite.server.mark()
    address = server_address(suite)
    with tcp_socket(client) as sock:
        sock.connect(address)
        # In TLS 1.3 the client learns only after its handshake that the server wants none of it.
        try:
            with context.wrap_socket(sock, server_hostname=address[0]) as tls:
                assert tls.recv(1) == b""
        except (ssl.SSLError, ConnectionResetError):
            pass
    assert suite.server.wait_for("handshake_failed", since=mark)["level"] == "warning"


# ---------------------------------------------------------------------------- on a link


def rogue(
    suite: Suite, client: Host, *batches: bytes, method: str = "ClientStream", until: str = "Bye"
) -> list[str]:
    """What the server said to somebody with a client's certificate who sent these batches."""
    address, port = server_address(suite)
    argv = ("-m", "tests.namespaces.rogue", f"{address}:{port}", suite.certificates / "client", method, until)
    words = "".join(f"{batch.hex()}\n" for batch in batches)
    done = client.run(sys.executable, *argv, input=words, env={"PYTHONPATH": str(ROOT)})
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


def frames(*sequence: Frame) -> bytes:
    return encode((HELLO, *sequence))


def raw(**fields: object) -> bytes:
    """A batch that our own codec would not write."""
    frame = pb.Frame(**fields)  # type: ignore[arg-type]
    return frames() + pb.ClientMessage(frames=[frame]).SerializeToString()


def open_of(connection: ConnectionId, port: int, address: str = TARGET) -> Open:
    return Open(connection, Endpoint.of("10.77.1.2", 1), Endpoint.of(address, port), limit=1 << 16)


NOWHERE = open_of(ConnectionId(b"somebody nowhere"), 80, "172.16.0.1")


def test_a_client_may_not_be_a_proxy(suite: Suite, client: Host) -> None:
    mark = suite.server.mark()
    batch = encode((HELLO, Routes("rogue", ())))
    assert rogue(suite, client, batch, method="ProxyStream") == ["STATUS PERMISSION_DENIED"]
    denied = suite.server.wait_for("peer_denied", since=mark)
    assert "spiffe://tunneler/client/client may not call" in denied["reason"]


def test_an_unknown_method(suite: Suite, client: Host) -> None:
    assert rogue(suite, client, frames(), method="NoSuchStream") == ["STATUS UNIMPLEMENTED"]


FATAL = {
    "unknown_kind": raw(kind=99, connection=MINE),
    "no_connection": raw(kind=pb.DATA, offset=0, payload=b"x"),
    "no_protobuf": frames() + b"\xff" * 100,
    "large_payload": raw(kind=pb.DATA, connection=MINE, offset=0, payload=bytes(MAX_PAYLOAD + 1)),
    "large_offset": raw(kind=pb.FIN, connection=MINE, offset=2**63),
    "no_hello": encode((Heartbeat(),)),
    "hello_twice": encode((HELLO, HELLO)),
    "routes": frames(Routes("rogue", ())),
    "open_result": frames(OpenResult(MINE, Code.OK, 1 << 20)),
    "foreign_version": encode((Hello(99, "rogue"),)),
}


@pytest.mark.parametrize("fault", FATAL)
def test_it_costs_the_link(suite: Suite, client: Host, fault: str) -> None:
    mark = suite.server.mark()
    heard = rogue(suite, client, FATAL[fault])
    assert heard[-2].startswith("Bye ")
    down = suite.server.wait_for("link_down", since=mark)
    assert down["peer"].startswith("client/client")
    assert down["cause"] in ("protocol", "version")
    assert down["reason"]


def test_a_batch_that_is_too_large(suite: Suite, client: Host) -> None:
    mark = suite.server.mark()
    batch = frames() + encode((Data(MINE, 0, bytes(MAX_PAYLOAD)),)) * (MAX_BATCH_ACCEPTED // MAX_PAYLOAD + 1)
    heard = rogue(suite, client, batch)
    assert heard[-1].startswith("STATUS")
    assert suite.server.wait_for("link_down", since=mark)["reason"]


def test_an_endless_number_of_small_batches(suite: Suite, client: Host) -> None:
    batches = [frames(), *[encode((Data(MINE, 0, b"x"),))] * 2000]
    mark = suite.server.mark()
    rogue(suite, client, *batches, until="Reset")
    suite.server.wait_for("link_down", since=mark, peer=ROGUE)


def of_the_download(suite: Suite) -> ConnectionId:
    """The id of the honest connection: a secret, but suppose that it got out."""
    return ConnectionId(bytes.fromhex(suite.client.events("connection_opened")[0]["connection"]))


STRAYS: dict[str, Callable[[ConnectionId], Frame]] = {
    "data": lambda theirs: Data(theirs, 0, b"forged"),
    "fin": lambda theirs: Fin(theirs, 0),
    "ack": lambda theirs: Ack(theirs, 1 << 40, 1 << 41),
    "reset": lambda theirs: Reset(theirs, Code.RESET_BY_PEER),
}


@pytest.mark.parametrize("kind", STRAYS)
def test_a_frame_for_a_connection_of_somebody_else(suite: Suite, client: Host, kind: str) -> None:
    """It changes nothing for them, and is logged; that the link goes on shows by its next request."""
    mark = suite.server.mark()
    batch = frames(STRAYS[kind](of_the_download(suite)), NOWHERE)
    heard = rogue(suite, client, batch, until="OpenResult")
    assert "OpenResult NO_ROUTE" in heard
    assert suite.server.wait_for("stray_frame", since=mark, peer=ROGUE)["level"] == "warning"
    assert suite.server.wait_for("link_down", since=mark, peer=ROGUE)["strays"] == 1


def test_a_connection_of_somebody_else_cannot_be_opened(suite: Suite, client: Host) -> None:
    mark = suite.server.mark()
    heard = rogue(suite, client, frames(open_of(of_the_download(suite), 80)))
    assert heard[-2] == "Bye CONFLICT"
    assert suite.server.wait_for("link_down", since=mark, peer=ROGUE)["cause"] == "conflict"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([Data(MINE, 5, b"after a gap")], "PROTOCOL"),
        ([Data(MINE, 0, b"x"), Fin(MINE, 9)], "PROTOCOL"),
        ([Fin(MINE, 0), Data(MINE, 1, b"after the end")], "PROTOCOL"),
    ],
    ids=["gap", "fin_after_a_gap", "data_after_fin"],
)
def test_it_costs_the_connection_alone(
    suite: Suite, client: Host, target: Host, words: list[Frame], code: str
) -> None:
    with listen(target) as listener:
        mark = suite.server.mark()
        heard = rogue(suite, client, frames(open_of(MINE, listener.getsockname()[1]), *words), until="Reset")
        assert f"Reset {code}" in heard
        assert not [line for line in heard if line.startswith("Bye")]
    wait_until(
        lambda: (
            {
                event["event"]
                for event in suite.server.events(since=mark, connection=MINE.hex())
                if event.get("cause") == code.lower()
            }
            & {"connection_closed", "connection_refused"}
        ),
        10,
        "a log line about the connection",
    )
