"""One endpoint, and the one connection on it that a playbook is about."""

from __future__ import annotations

from tests.unit.protocol.cast import name
from tunneler.errors import Code, ConnectionFault
from tunneler.protocol.connection import Connection
from tunneler.protocol.endpoint import Endpoint
from tunneler.protocol.events import ConnectionReset
from tunneler.protocol.frames import ConnectionFrame, Frame, Reset
from tunneler.protocol.outbox import Outbox
from tunneler.protocol.window import Budget

ONE = name(1)


class EndpointStage:
    def __init__(self, endpoint: Endpoint, outbox: Outbox, connection: Connection, budget: Budget) -> None:
        self.endpoint = endpoint
        self.outbox = outbox
        self.connection = connection
        self.budget = budget

    def receive(self, frame: ConnectionFrame, now: float = 0.0) -> object:
        return self.endpoint.receive(frame, now)

    def sent(self) -> list[Frame]:
        return self.outbox.take()

    def assert_nothing_left(self) -> None:
        assert not self.endpoint.connections
        assert not len(self.endpoint._opening)
        assert not len(self.endpoint._idle)
        assert (self.budget.connections, self.budget.outstanding) == (0, 0)

    def assert_reset(self, event: object, code: Code, match: str) -> None:
        """The peer was at fault: it is told, the event says so, and nothing is left."""
        assert isinstance(event, ConnectionReset)
        assert (event.connection, event.code) == (ONE, code)
        assert isinstance(event.fault, ConnectionFault)
        assert match in str(event.fault)
        assert self.sent()[-1] == Reset(ONE, code)
        self.assert_nothing_left()
