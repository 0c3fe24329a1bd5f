"""TLS of the native transport without a socket: bytes in, bytes out."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.loopback.applications import noise
from tests.loopback.peers import Material
from tests.loopback.trio import HOST
from tunneler.pki.identity import identity_of_certificate
from tunneler.transport.native.channel import RECORD_BYTES, Channel, PlainChannel, TlsChannel, _joined
from tunneler.transport.native.contexts import context_source
from tunneler.transport.seam import Security

RECORD_HEAD = 5
APPLICATION_DATA = 23
SIZES = [1, 2, 9, 100, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, 3 * RECORD_BYTES, 100_003]


class Pair:
    """Both ends; ``near`` is who dialled."""

    def __init__(self, near: Channel, far: Channel) -> None:
        self.near = near
        self.far = far

    def shake_hands(self) -> None:
        """Carry bytes until neither end has any more to say: RFC 8446 section 2."""
        while not (self.near.handshake() and self.far.handshake()):
            give(self.far, self.near.seal(()))
            self.far.handshake()
            give(self.near, self.far.seal(()))
        give(self.far, self.near.seal(()))
        give(self.near, self.far.seal(()))


def secured(pki: Path) -> Pair:
    def context(holder: str, *, server_side: bool) -> ssl.SSLContext:
        security = Security(Material(pki, holder), identity_of_certificate)
        return context_source(security, server_side=server_side)()

    pair = Pair(
        TlsChannel(context("client", server_side=False), HOST),
        TlsChannel(context("server", server_side=True), None),
    )
    pair.shake_hands()
    return pair


@pytest.fixture(params=["near to far", "far to near"])
def ends(request: pytest.FixtureRequest, pki: Path) -> tuple[Channel, Channel]:
    """Who speaks, and who hears."""
    pair = secured(pki)
    return (pair.near, pair.far) if request.param == "near to far" else (pair.far, pair.near)


def give(channel: Channel, data: bytes) -> None:
    if data:
        channel.receive(memoryview(data))


def heard(channel: Channel) -> bytes:
    return b"".join(bytes(piece) for piece in channel.plaintext())


def records(sealed: bytes) -> Iterator[bytes]:
    """TLS records, heads included: RFC 8446 section 5.1."""
    while sealed:
        length = RECORD_HEAD + int.from_bytes(sealed[3:RECORD_HEAD], "big")
        assert len(sealed) >= length
        yield sealed[:length]
        sealed = sealed[length:]


def buffers_of(sizes: Iterable[int]) -> list[bytes | memoryview]:
    """Buffers of these sizes, every other one a view, none like another."""
    made: list[bytes | memoryview] = []
    for seed, size in enumerate(sizes):
        made.append(noise(size, seed) if seed % 2 else memoryview(noise(size, seed)))
    return made


# Joining.


@given(st.lists(st.one_of(st.integers(0, 300), st.sampled_from(SIZES)), max_size=12))
def test_joined_keeps_every_byte(sizes: list[int]) -> None:
    buffers = buffers_of(sizes)
    assert b"".join(_joined(buffers)) == b"".join(buffers)


@given(st.lists(st.one_of(st.integers(1, 300), st.sampled_from(SIZES)), min_size=1, max_size=12))
def test_joined_wastes_no_records(sizes: list[int]) -> None:
    """No more than one record that is not full for each buffer that has its own, and one for the rest."""
    used = sum(-(-len(piece) // RECORD_BYTES) for piece in _joined(buffers_of(sizes)))
    large = sum(size >= RECORD_BYTES for size in sizes)
    assert used <= sum(sizes) // RECORD_BYTES + large + 1


@pytest.mark.parametrize("head", [1, 14, RECORD_BYTES - 1])
@pytest.mark.parametrize("body", [RECORD_BYTES, RECORD_BYTES + 1, 2 * RECORD_BYTES - 14, 70_000])
def test_head_travels_in_the_first_record_of_its_message(head: int, body: int) -> None:
    first, *_ = _joined(buffers_of([head, body]))
    assert len(first) == RECORD_BYTES


# Sealing, and what arrives.


@pytest.mark.parametrize("size", SIZES)
def test_all_arrives(ends: tuple[Channel, Channel], size: int) -> None:
    speaker, hearer = ends
    give(hearer, speaker.seal([noise(size)]))
    assert heard(hearer) == noise(size)


@pytest.mark.parametrize(
    "sizes", [[14, 100_000], [14] * 5000, SIZES, [RECORD_BYTES] * 3, [RECORD_BYTES, 0], [0, 1, 0], []]
)
def test_buffers_arrive_as_one(ends: tuple[Channel, Channel], sizes: list[int]) -> None:
    speaker, hearer = ends
    buffers = buffers_of(sizes)
    sealed = speaker.seal(buffers)
    assert all(record[0] == APPLICATION_DATA for record in records(sealed))
    give(hearer, sealed)
    assert heard(hearer) == b"".join(buffers)


def test_more_than_is_handed_on_at_once(ends: tuple[Channel, Channel]) -> None:
    speaker, hearer = ends
    give(hearer, speaker.seal([noise(3_000_000)]))
    pieces = [bytes(piece) for piece in hearer.plaintext()]
    assert b"".join(pieces) == noise(3_000_000)
    assert len(pieces) > 1


def test_byte_by_byte(ends: tuple[Channel, Channel]) -> None:
    """What a record says is heard with its last byte, and not before."""
    speaker, hearer = ends
    sealed = speaker.seal([noise(RECORD_BYTES + 500)])
    boundaries, total = {}, 0
    for record, size in zip(records(sealed), (RECORD_BYTES, 500), strict=True):
        total += len(record)
        boundaries[total] = size
    for position in range(1, len(sealed) + 1):
        give(hearer, sealed[position - 1 : position])
        assert len(heard(hearer)) == boundaries.get(position, 0)


@pytest.mark.parametrize("cut", [-1, 0, 1, RECORD_HEAD - 1, RECORD_HEAD, RECORD_HEAD + 1])
def test_cut_around_a_record_boundary(ends: tuple[Channel, Channel], cut: int) -> None:
    speaker, hearer = ends
    sealed = speaker.seal([noise(RECORD_BYTES + 500)])
    first, _ = records(sealed)
    at = len(first) + cut
    give(hearer, sealed[:at])
    early = heard(hearer)
    assert len(early) == (RECORD_BYTES if cut >= 0 else 0)
    give(hearer, sealed[at:])
    assert early + heard(hearer) == noise(RECORD_BYTES + 500)


def test_handshake_byte_by_byte(pki: Path) -> None:
    """Into either end."""

    class Dribbled(TlsChannel):
        def receive(self, data: memoryview) -> None:
            for byte in data:
                super().receive(memoryview(bytes([byte])))
                if not self.ready:
                    self.handshake()

    def source(holder: str, *, server_side: bool) -> ssl.SSLContext:
        return context_source(
            Security(Material(pki, holder), identity_of_certificate), server_side=server_side
        )()

    pair = Pair(
        Dribbled(source("client", server_side=False), HOST),
        Dribbled(source("server", server_side=True), None),
    )
    pair.shake_hands()
    give(pair.far, pair.near.seal([b"hello"]))
    assert heard(pair.far) == b"hello"


# Ends.


def test_close_notify(ends: tuple[Channel, Channel]) -> None:
    """What came before it is heard; what comes after it is not (RFC 8446 section 6.1)."""
    speaker, hearer = ends
    give(hearer, speaker.seal([b"last words"]) + speaker.seal_end() + b"whatever")
    assert heard(hearer) == b"last words"
    assert hearer.ended
    assert not speaker.ended


def test_close_notify_although_the_peer_has_not_been_heard(ends: tuple[Channel, Channel]) -> None:
    speaker, hearer = ends
    give(speaker, hearer.seal([noise(100_000)]))
    give(hearer, speaker.seal_end())
    assert heard(hearer) == b""
    assert hearer.ended


def test_answer_to_close_notify(ends: tuple[Channel, Channel]) -> None:
    speaker, hearer = ends
    give(hearer, speaker.seal_end())
    assert heard(hearer) == b""
    give(speaker, hearer.seal([b"I still had to say this"]) + hearer.seal_end())
    assert not speaker.ended


@pytest.mark.parametrize("at", [0, 3, RECORD_HEAD, 40, -1])
def test_altered_record(ends: tuple[Channel, Channel], at: int) -> None:
    speaker, hearer = ends
    sealed = bytearray(speaker.seal([b"x" * 100]))
    sealed[at] ^= 0x40
    give(hearer, bytes(sealed) + bytes(RECORD_BYTES * 2))
    with pytest.raises(ssl.SSLError):
        heard(hearer)


def test_repeated_record(ends: tuple[Channel, Channel]) -> None:
    speaker, hearer = ends
    sealed = speaker.seal([b"once"])
    give(hearer, sealed + sealed)
    with pytest.raises(ssl.SSLError):
        heard(hearer)


# Plaintext.


def test_plaintext_is_passed_on_as_it_is() -> None:
    channel = PlainChannel()
    assert channel.handshake()
    assert channel.seal(buffers_of([1, 0, 100_000])) == b"".join(buffers_of([1, 0, 100_000]))
    assert channel.seal_end() == b""
    give(channel, b"hello")
    assert heard(channel) == b"hello"
    assert heard(channel) == b""
    assert channel.peer_certificate() is None
