"""Both stacks under comparison do the same work."""

from __future__ import annotations

import pytest

from bench.framing import STACKS, H2End, OurEnd, Pair, table
from tunneler.http2.limits import WINDOW
from tunneler.protocol.frames import MAX_BATCH_ACCEPTED


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("size", [0, 1, 16384, MAX_BATCH_ACCEPTED])
def test_messages_come_back_whole_beyond_one_window(stack: str, size: int) -> None:
    pair = STACKS[stack]()
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    for _ in range(2 * WINDOW // MAX_BATCH_ACCEPTED + 1):
        assert pair.round_trip(message) == message


@pytest.mark.parametrize("make", [H2End, OurEnd])
def test_what_exceeds_the_window_waits_for_room(make: type[H2End | OurEnd]) -> None:
    client, server = make(client_side=True), make(client_side=False)
    Pair(client, server)
    messages = [bytes([number]) * MAX_BATCH_ACCEPTED for number in range(3)]
    for message in messages:
        client.send(message)
    arrived = []
    while data := client.take():
        assert len(data) < sum(map(len, messages))
        arrived += server.receive(memoryview(data))
        client.receive(memoryview(server.take()))
    assert arrived == messages


def test_the_table_has_a_row_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.framing.MESSAGES_PER_ROUND", 10)
    monkeypatch.setattr("bench.framing.SIZES", (100, 1024))
    heading, *rows = table(rounds=1)
    assert heading == ["bytes", "h2, µs", "tunneler.http2, µs", "ratio"]
    assert [row[0] for row in rows] == ["100", "1024"]
    assert all(float(figure) > 0 for row in rows for figure in row[1:3])
