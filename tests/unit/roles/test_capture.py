"""What tests/namespaces/test_capture_run.py cannot bring about."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from tunneler.roles import capture


@pytest.mark.parametrize(
    ("told", "taken"),
    [(1_379_622_032, None), (0, None), (signal.SIGHUP, signal.SIGHUP), (signal.SIGTERM, signal.SIGTERM)],
)
def test_a_signal_that_is_none(
    monkeypatch: pytest.MonkeyPatch, told: int, taken: signal.Signals | None
) -> None:
    """As sigtimedwait() tells, when the process was stopped until the time was up."""
    monkeypatch.setattr(signal, "sigtimedwait", lambda *_: SimpleNamespace(si_signo=told))
    assert capture._next_signal(0.0) == taken
