"""Endpoints in the states in which most playbooks begin; time stands at 0."""

from __future__ import annotations

import pytest

from tests.unit.protocol import cast
from tests.unit.protocol.cast import CLIENT, PROXY, name, only, open_frame
from tests.unit.protocol.endpoint_stage import EndpointStage
from tunneler.errors import Code
from tunneler.protocol.events import OpenRequested
from tunneler.protocol.frames import Open, OpenResult
from tunneler.protocol.window import FLOOR, Budget

ONE = name(1)


@pytest.fixture
def client() -> EndpointStage:
    """A client in SYN_SENT, whose OPEN has been written."""
    budget = Budget(cast.AMPLE)
    endpoint, outbox = cast.client_endpoint(budget)
    connection = endpoint.open(open_frame(), 0.0)
    assert only(Open, outbox.take()) == open_frame(limit=FLOOR)
    return EndpointStage(endpoint, outbox, connection, budget)


@pytest.fixture
def proxy() -> EndpointStage:
    """A proxy in SYN_RECEIVED."""
    budget = Budget(cast.AMPLE)
    endpoint, outbox = cast.proxy_endpoint(budget)
    request = open_frame()._replace(client=CLIENT)
    assert endpoint.receive(request, 0.0) == OpenRequested(ONE, request)
    return EndpointStage(endpoint, outbox, endpoint.connections[ONE], budget)


@pytest.fixture
def opened(client: EndpointStage) -> EndpointStage:
    """A client in ESTABLISHED."""
    client.receive(OpenResult(ONE, Code.OK, FLOOR, PROXY))
    return client
