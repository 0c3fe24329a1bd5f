"""Whether new connections are to be captured, by what can be seen of the client.

While there is nobody to carry them, new connections are either refused or go where they would without
tunneler: ``capture.when_down`` says which. Pure: the time is an argument.
"""

from __future__ import annotations

from typing import Final, Literal

from tunneler.capture.liveness import ClientState

WhenDown = Literal["closed", "open"]

PATIENCE: Final = 2.0
"""Seconds for a client or a server that comes back at once, and for a client that is being started:
the rules do not change for these."""

_TROUBLE: Final = {
    ClientState.KILLED: "the client was killed",
    ClientState.DOWN: "the client has no link",
}


class Gate:
    """Remembers how long nobody has been there to carry connections."""

    def __init__(self, when_down: WhenDown) -> None:
        self.when_down = when_down
        self.trouble: str | None = None
        """Why connections cannot be carried, once that has lasted for PATIENCE; None: they can."""
        self._since: float | None = None

    def look(self, state: ClientState, *, heard: bool, now: float) -> bool:
        """Take notice of how things are; return whether :attr:`trouble` has changed.

        Args:
            state: of the client.
            heard: whether anybody listens where connections are redirected to.
            now: seconds, of a clock that never goes back.
        """
        before = self.trouble
        trouble = _TROUBLE.get(state) if heard else "nobody listens"
        if trouble is None:
            self._since = self.trouble = None
        else:
            self._since = now if self._since is None else self._since
            if now - self._since >= PATIENCE:
                self.trouble = trouble
        return self.trouble != before

    @property
    def captures(self) -> bool:
        """Whether new connections are captured: refused, if there is trouble."""
        return self.trouble is None or self.when_down == "closed"
