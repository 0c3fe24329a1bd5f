"""Other people's HTTP/2: nghttp and h2load, of Debian's nghttp2-client, against the native listener.

nghttp begins with PRIORITY frames on idle streams, as browsers did, and speaks HPACK with Huffman
coding and a dynamic table; h2load keeps several connections busy with as many calls as it may.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from tests.http2.listening import Place, listening, undisturbed
from tests.http2.rawframes import HEALTH, SERVING, check, message

GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")
SECONDS = 20.0


async def run(*command: str) -> tuple[bytes, str]:
    """Run a program to its end; return its standard output and, with what else it said, its text."""
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL, check=True
    )
    return done.stdout, (done.stdout + done.stderr).decode(errors="replace")


@pytest.fixture
def body(tmp_path: Path) -> str:
    """A file with the request of a health check."""
    path = tmp_path / "request"
    path.write_bytes(check())
    return str(path)


def url(place: Place, path: str) -> str:
    return f"{'https' if place.pki else 'http'}://{place.address}{path}"


def identity(place: Place) -> tuple[str, ...]:
    if place.pki is None:
        return ()
    directory = place.pki / "client"
    return ("--no-verify-peer", f"--cert={directory / 'cert.pem'}", f"--key={directory / 'key.pem'}")


async def test_nghttp_asks_for_health(certificates: Path | None, body: str) -> None:
    async with listening(certificates) as place, undisturbed(place):
        call = (*identity(place), *GRPC, "-d", body, url(place, HEALTH))
        answer, _ = await run("nghttp", *call)
        assert answer == message(SERVING)
        _, said = await run("nghttp", "--verbose", *call)
    assert ":status: 200" in said
    assert "grpc-status: 0" in said
    assert "GOAWAY frame <" not in said.replace("send GOAWAY", "")
    assert "RST_STREAM" not in said


async def test_nghttp_gets_an_error(certificates: Path | None, body: str) -> None:
    """A GET is no gRPC, nor is a POST of something else; both are told so in HTTP's words."""
    async with listening(certificates) as place, undisturbed(place):
        _, said = await run("nghttp", "--verbose", *identity(place), url(place, "/"))
        assert ":status: 405" in said
        _, said = await run("nghttp", "--verbose", *identity(place), "-d", body, url(place, HEALTH))
        assert ":status: 415" in said
        _, said = await run(
            "nghttp", "--verbose", *identity(place), *GRPC, "-d", body, url(place, "/no/such")
        )
        assert "grpc-status: 12" in said


async def test_nghttp_with_much_at_once(certificates: Path | None, body: str) -> None:
    """Padding, trailers, a stream's window of one byte; several calls, whose bytes come in turn."""
    more = ("--padding=200", "--trailer=x-after: all", "-w", "1", "-W", "16", "-m", "8")
    async with listening(certificates) as place, undisturbed(place):
        answer, _ = await run("nghttp", *identity(place), *more, *GRPC, "-d", body, url(place, HEALTH))
        assert sorted(answer) == sorted(message(SERVING) * 8)


@pytest.mark.parametrize(("connections", "calls"), [(1, 1), (1, 8), (4, 8), (20, 4)])
async def test_h2load(body: str, connections: int, calls: int) -> None:
    """Every call is answered, and none with an error."""
    number = 1000
    async with listening(None) as place, undisturbed(place):
        load = ("-n", str(number), "-c", str(connections), "-m", str(calls))
        _, said = await run("h2load", *load, *GRPC, "-d", body, url(place, HEALTH))
    assert f"{number} done, {number} succeeded, 0 failed, 0 errored, 0 timeout" in said
    assert f"status codes: {number} 2xx, 0 3xx, 0 4xx, 0 5xx" in said


async def test_h2load_with_more_calls_than_allowed(body: str) -> None:
    """It is told how many streams it may have, and keeps to that."""
    async with listening(None) as place, undisturbed(place):
        _, said = await run(
            "h2load", "-n", "500", "-c", "2", "-m", "100", *GRPC, "-d", body, url(place, HEALTH)
        )
    outcome = re.search(r"(\d+) done, (\d+) succeeded, \d+ failed, \d+ errored, 0 timeout", said)
    assert outcome is not None, said
    assert int(outcome[1]) == 500
    # nghttp2 takes it that it may have 100 streams until it has our SETTINGS; those are refused.
    assert int(outcome[2]) >= 500 - 2 * 92
