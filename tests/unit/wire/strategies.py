"""Every frame that may go over the wire, for hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network

from hypothesis import strategies as st

from tunneler.addresses import ConnectionId, Endpoint, Identity, Network, Role, Route
from tunneler.errors import Code
from tunneler.protocol.frames import (
    MAX_OFFSET,
    Ack,
    Bye,
    Data,
    Drain,
    Fin,
    Frame,
    Heartbeat,
    Hello,
    Open,
    OpenResult,
    Party,
    Reset,
    Routes,
    RoutesResult,
)

connections = st.binary(min_size=16, max_size=16).map(ConnectionId)
offsets = st.one_of(st.integers(0, 300), st.integers(0, MAX_OFFSET), st.sampled_from((0, MAX_OFFSET)))
payloads = st.one_of(
    st.binary(min_size=1, max_size=200),
    # Around every length at which a varint grows.
    st.sampled_from((1, 95, 96, 127, 128, 16_250, 16_383, 16_384, 262_143, 262_144)).map(bytes),
)
codes = st.sampled_from(Code)
failures = st.sampled_from([code for code in Code if code is not Code.OK])
names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
identities = st.builds(
    Identity, st.sampled_from(Role), st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
)
parties = st.builds(Party, identities, names)
endpoints = st.builds(Endpoint, st.ip_addresses(), st.integers(1, 65535))


def _prefixes(width: int, make: Callable[[tuple[int, int]], Network]) -> st.SearchStrategy[Route]:
    def build(length: int, virtual: int, real: int) -> Route:
        shift = width - length
        return Route(make((virtual >> shift << shift, length)), make((real >> shift << shift, length)))

    number = st.integers(0, 2**width - 1)
    return st.builds(build, st.integers(0, width), number, number)


routes = st.one_of(_prefixes(32, IPv4Network), _prefixes(128, IPv6Network))
several_routes = st.lists(routes, max_size=4).map(tuple)

hot_frames: st.SearchStrategy[Data | Fin | Ack] = st.one_of(
    st.builds(Data, connections, offsets, payloads),
    st.builds(Fin, connections, offsets),
    st.builds(Ack, connections, offsets, offsets),
)
cold_frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Open, connections, endpoints, endpoints, offsets, st.booleans(), st.none() | parties),
    st.builds(OpenResult, connections, st.just(Code.OK), offsets, st.none() | parties),
    st.builds(OpenResult, connections, failures, st.just(0), st.none() | parties),
    st.builds(Reset, connections, codes),
    st.builds(Hello, st.integers(0, 2**32 - 1), names),
    st.builds(Routes, names, several_routes),
    st.builds(RoutesResult, several_routes),
    st.just(Heartbeat()),
    st.just(Drain()),
    st.builds(Bye, codes),
)
frames: st.SearchStrategy[Frame] = st.one_of(hot_frames, cold_frames)
batches = st.lists(frames, max_size=8)


def told_apart(frames: list[Frame]) -> list[tuple[type, Frame]]:
    """Frames to be compared: named tuples of different kinds may be equal."""
    return [(type(frame), frame) for frame in frames]
