"""Many frames of random sizes, both ways: three processes, two TLS links, every byte compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.running import until
from tests.loopback.trio import HOST, members, stage

FRAMES = int(os.environ.get("TUNNELER_TEST_FRAMES", "200000"))
"""DATA frames that are sent, both directions together; by hand: 2000000."""
CONNECTIONS = 400
SECONDS = 60.0 + FRAMES / 2000
"""Patience, on a machine that has something else to do."""


def talking(role: str, port: int, pki: Path) -> subprocess.Popen[bytes]:
    each = -(-FRAMES // (2 * CONNECTIONS))
    command = [sys.executable, "-m", "tests.loopback.frame_ends"]
    return subprocess.Popen(
        [*command, role, f"{HOST}:{port}", pki, str(CONNECTIONS), str(each)], stdout=subprocess.PIPE
    )


async def tally_of(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    await until(lambda: process.poll() is not None, SECONDS)
    assert process.stdout is not None
    tally = json.loads(process.stdout.read())
    assert isinstance(tally, dict)
    return tally


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 30)
async def test_every_frame_arrives_once_and_unaltered(pki: Path) -> None:
    async with stage(pki) as trio:
        trio.start_server()
        with talking("proxy", trio.server_port, pki) as proxy:
            await until(lambda: members(trio.server), 20)
            start = time.monotonic()
            with talking("client", trio.server_port, pki) as client:
                up, down = await tally_of(client), await tally_of(proxy)
            seconds = time.monotonic() - start
        relayed = trio.server.relay
        assert not relayed.connections
    print(f"client: {up}\nproxy: {down}")
    assert up["faults"] == down["faults"] == []
    assert up["frames_sent"] + down["frames_sent"] >= FRAMES
    assert up["bytes_sent"] == down["bytes_received"]
    assert down["bytes_sent"] == up["bytes_received"]
    # The server joins neighbours while a link is congested: bytes are exact, frames may become fewer.
    received = up["frames_received"] + down["frames_received"]
    assert FRAMES / 2 < received <= up["frames_sent"] + down["frames_sent"]
    size = up["bytes_received"] + down["bytes_received"]
    print(
        f"{received} frames, {size / 1e9:.2f} GB in {seconds:.1f} s: {received / seconds:.0f} frames a second"
    )
