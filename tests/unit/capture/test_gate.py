from __future__ import annotations

import pytest

from tunneler.capture.gate import PATIENCE, Gate, WhenDown
from tunneler.capture.liveness import ClientState

BAD = [
    (ClientState.DOWN, True, "the client has no link"),
    (ClientState.KILLED, True, "the client was killed"),
    (ClientState.NOT_STARTED, False, "nobody listens"),
    (ClientState.UP, False, "nobody listens"),
]


@pytest.mark.parametrize("state", [ClientState.UP, ClientState.NOT_STARTED])
@pytest.mark.parametrize("when_down", ["closed", "open"])
def test_a_client_that_works_or_waits_to_be_started_is_no_trouble(
    when_down: WhenDown, state: ClientState
) -> None:
    gate = Gate(when_down)
    assert not gate.look(state, heard=True, now=0)
    assert not gate.look(state, heard=True, now=1000)
    assert (gate.trouble, gate.captures) == (None, True)


@pytest.mark.parametrize(("state", "heard", "trouble"), BAD)
@pytest.mark.parametrize(("when_down", "captures"), [("closed", True), ("open", False)])
def test_trouble_that_lasts(
    when_down: WhenDown, captures: bool, state: ClientState, heard: bool, trouble: str
) -> None:
    gate = Gate(when_down)
    assert not gate.look(state, heard=heard, now=10)
    assert not gate.look(state, heard=heard, now=10 + PATIENCE - 0.01)
    assert gate.captures
    assert gate.look(state, heard=heard, now=10 + PATIENCE)
    assert (gate.trouble, gate.captures) == (trouble, captures)
    assert not gate.look(state, heard=heard, now=10 + 2 * PATIENCE)
    assert gate.look(ClientState.UP, heard=True, now=10 + 2 * PATIENCE)
    assert (gate.trouble, gate.captures) == (None, True)


def test_one_trouble_after_another_is_one_time() -> None:
    gate = Gate("open")
    gate.look(ClientState.KILLED, heard=True, now=0)
    assert gate.look(ClientState.DOWN, heard=True, now=PATIENCE)
    assert gate.trouble == "the client has no link"


def test_trouble_that_passes_quickly_counts_anew() -> None:
    gate = Gate("open")
    for now in range(10):
        state = ClientState.KILLED if now % 2 else ClientState.UP
        assert not gate.look(state, heard=True, now=now)


def test_another_choice_in_the_middle_of_trouble() -> None:
    gate = Gate("closed")
    gate.look(ClientState.DOWN, heard=True, now=0)
    gate.look(ClientState.DOWN, heard=True, now=PATIENCE)
    gate.when_down = "open"
    assert not gate.captures
