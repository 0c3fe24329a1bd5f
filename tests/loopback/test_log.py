"""What an operator can find out about one connection."""

from __future__ import annotations

import logging
from pathlib import Path

from tests.loopback.applications import echo_target, end, ending, read_to_end
from tests.loopback.recorder import Recorder
from tests.loopback.trio import running_trio


async def test_every_role_names_every_connection(pki: Path) -> None:
    """At the level that is the default: ``journalctl TUNNELER_CONNECTION=…`` finds it on each host."""
    with Recorder(logging.INFO) as log:
        async with echo_target() as target, running_trio(pki) as trio:
            with await trio.connect(target.port) as app:
                end(app)
                assert await read_to_end(app) == b""
            await trio.released()
            carried = {event["connection"] for event in log.of("connection_closed", "client")}
            with await trio.connect(1) as app:
                assert await ending(app, 1.0) == "reset"
            await trio.released()
        refused = {event["connection"] for event in log.of("connection_refused", "client")}
        assert (len(carried), len(refused)) == (1, 1)
        for role in ("client", "server", "proxy"):
            named = {fields.get("connection") for part, _, fields in log.events if part == role}
            assert carried | refused <= named, role
