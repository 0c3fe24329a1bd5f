"""Roles that take on another configuration while they carry connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from tests.loopback.applications import Target, echo_target, ending, noise, open_pair, read, write
from tests.loopback.recorder import Recorder
from tests.loopback.running import background, until
from tests.loopback.test_links import echoes
from tests.loopback.trio import Running, Trio, stage
from tunneler.config.model import RoleConfig
from tunneler.config.plain import plain_copy
from tunneler.engine.lifecycle import Lifecycle
from tunneler.pki.store import generate
from tunneler.protocol.link import Timing
from tunneler.roles.client import Client
from tunneler.roles.proxy import Proxy
from tunneler.roles.server import Server

PARTS = ("client", "server", "proxy")
OTHER = "100.64.2.1"
"""127.0.0.1 by a route that only a reload announces."""
BOTH_ROUTES = tuple({"virtual": f"100.64.{number}.0/24", "real": "127.0.0.0/24"} for number in (1, 2))


class Reloadable:
    """A trio whose configurations may change."""

    def __init__(self, trio: Trio) -> None:
        self.trio = trio
        self.makers: dict[str, Callable[..., RoleConfig]] = {
            "client": trio.client_config,
            "server": trio.server_config,
            "proxy": trio.proxy_config,
        }
        self.configurations: dict[str, SimpleNamespace] = {}
        self.lives: dict[str, Lifecycle] = {}

    def start(self, part: str, **options: Any) -> None:
        self.configurations[part] = plain_copy(self.makers[part](**options))
        self.lives[part] = Lifecycle(reread=lambda: self._reread(part))
        config: Any = self.configurations[part]
        group = self.trio._group
        if part == "client":
            self.trio.clients.append(Running(Client(config), group, self.lives[part]))
        elif part == "server":
            self.trio.servers.append(Running(Server(config), group, self.lives[part]))
        else:
            self.trio.proxies.append(Running(Proxy(config), group, self.lives[part]))

    async def _reread(self, part: str) -> Any:
        return self.configurations[part]

    async def reload(self, log: Recorder, part: str, /, **options: Any) -> dict[str, Any]:
        """Have one take on another configuration; return what it says of that."""
        before = len(log.of("reloaded")) + len(log.of("reload_refused"))
        self.configurations[part] = plain_copy(self.makers[part](**options))
        self.lives[part].reload.set()
        await until(lambda: len(log.of("reloaded")) + len(log.of("reload_refused")) > before)
        return (log.of("reload_refused") or log.of("reloaded"))[-1]


@pytest.fixture(autouse=True)
def configured() -> Iterator[list[str]]:
    """The levels of log that were asked for; the log of this process stays as it is."""
    levels: list[str] = []
    with patch("tunneler.observability.log.configure", lambda _role, level, *_: levels.append(level)):
        yield levels


@asynccontextmanager
async def reloadable(pki: Path, **timeouts: Any) -> AsyncIterator[Reloadable]:
    async with stage(pki, **timeouts) as trio:
        made = Reloadable(trio)
        for part in ("server", "proxy", "client"):
            made.start(part)
        await trio.ready()
        yield made


async def send_slowly(sock: socket.socket, data: bytes) -> None:
    for start in range(0, len(data), 65536):
        await write(sock, data[start : start + 65536])
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("part", PARTS)
async def test_transfers_go_on(pki: Path, log: Recorder, part: str) -> None:
    """Everything that may change changes, in the middle of a transfer each way; no byte is lost."""
    changed: dict[str, Any] = {
        "timeouts": {"idle": 600, "heartbeat": 0.3, "silence": 8, "open": 2, "dial": 2, "handshake": 2},
        "limits": {"memory_budget": 2 << 20, "max_connections": 50, "max_links": 20},
        "tcp_keepalive": {"idle": 7},
        "log": {"level": "debug"},
    }
    own: dict[str, dict[str, Any]] = {
        "client": {"exclude": "100.65.0.0/16"},
        "proxy": {"routes": BOTH_ROUTES},
    }
    with Target() as target:
        async with reloadable(pki) as made:
            with await open_pair(made.trio, target) as up, await open_pair(made.trio, target) as down:
                data = noise(8 << 20)
                async with background(send_slowly(up.app, data), send_slowly(down.target, data)):
                    assert await read(up.target, 1 << 20) == data[: 1 << 20]
                    said = await made.reload(log, part, **changed, **own.get(part, {}))
                    assert "limits.memory_budget" in said["changed"].split()
                    said = await made.reload(log, part)
                    assert "limits.memory_budget" in said["changed"].split()
                    assert await read(up.target, 7 << 20) == data[1 << 20 :]
                    assert await read(down.app, 8 << 20) == data
    assert not log.of("reload_refused")
    assert not log.of("link_down", cause="link_lost")


async def test_routes_are_added_and_withdrawn(pki: Path, log: Recorder) -> None:
    async with echo_target() as target, reloadable(pki) as made:
        trio = made.trio
        with await trio.connect(target.port, OTHER) as app:
            assert await ending(app) == "reset"
        await made.reload(log, "proxy", routes=BOTH_ROUTES)
        await until(lambda: len(log.of("registered")) == 2)
        with await trio.connect(target.port, OTHER) as app:
            await write(app, b"x")
            assert await read(app, 1) == b"x"
            assert await echoes(trio, target.port)
            await made.reload(log, "proxy")
            await until(lambda: len(log.of("registered")) == 3)
            await write(app, b"still there")  # whatever the route was
            assert await read(app, 11) == b"still there"
            with await trio.connect(target.port, OTHER) as late:
                assert await ending(late) == "reset"
        assert await echoes(trio, target.port)
    assert log.of("connection_refused", "server", cause="no_route")


async def test_routes_that_stay_are_not_announced_again(pki: Path, log: Recorder) -> None:
    async with reloadable(pki) as made:
        await made.reload(log, "proxy", limits={"max_connections": 7})
        await made.reload(log, "proxy", routes=BOTH_ROUTES)
        await until(lambda: len(log.of("registered")) == 2)
    assert len(log.of("routes_announced")) == 2


async def test_another_group_is_another_claim(pki: Path, log: Recorder) -> None:
    async with echo_target() as target, reloadable(pki) as made:
        await made.reload(log, "proxy", group="blue")
        await until(lambda: len(log.of("registered")) == 2)
        assert not log.of("route_conflict")
        assert await echoes(made.trio, target.port)


@pytest.mark.parametrize("part", PARTS)
async def test_a_limit_counts_at_once(pki: Path, log: Recorder, part: str) -> None:
    with Target() as target:
        async with reloadable(pki) as made:
            with await open_pair(made.trio, target):
                await made.reload(log, part, limits={"max_connections": 1})
                with await made.trio.connect(target.port) as app:
                    assert await ending(app) == "reset"
                await made.reload(log, part, limits={"max_connections": 2})
                with await open_pair(made.trio, target):
                    pass
    assert log.of("connection_refused", part, cause="limited")


async def test_a_servers_links_may_become_fewer_and_more(pki: Path, log: Recorder) -> None:
    async with reloadable(pki) as made:
        await made.reload(log, "server", limits={"max_links": 2})
        other = made.trio.start_proxy(proxy_id="proxy-2")
        await until(lambda: log.of("link_down", "server", cause="limited"))
        await made.reload(log, "server", limits={"max_links": 3})
        await until(lambda: len(made.trio.server.relay.links) == 3)
        await other.finish()


async def test_an_exclusion_counts_at_once(pki: Path, log: Recorder) -> None:
    async with echo_target() as target, reloadable(pki) as made:
        await made.reload(log, "client", exclude="100.64.1.0/24")
        with await made.trio.connect(target.port) as app:
            assert await ending(app) == "reset"
        assert "in an excluded network" in log.of("capture_refused")[0]["reason"]
        await made.reload(log, "client")
        assert await echoes(made.trio, target.port)


async def test_keepalive_is_that_of_the_next_connection(pki: Path, log: Recorder) -> None:
    def keepalive() -> tuple[int, int]:
        sock = made.trio.client._acceptors[0].socket
        return (
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        )

    async with reloadable(pki) as made:
        assert keepalive() == (1, 60)
        await made.reload(log, "client", tcp_keepalive={"idle": 7})
        assert keepalive() == (1, 7)
        await made.reload(log, "client", tcp_keepalive={"enabled": False})
        assert keepalive()[0] == 0


async def test_idleness_is_counted_anew_for_what_is_open(pki: Path, log: Recorder) -> None:
    for part in PARTS:
        with Target() as target:
            async with reloadable(pki) as made:
                with await open_pair(made.trio, target) as pair:
                    await made.reload(log, part, timeouts={"idle": 0.2})
                    assert await ending(pair.app, 3) == "reset"
    assert {event["cause"] for event in log.of("connection_closed", "server")} == {"idle"}


async def test_budget_and_times_are_those_of_links_that_are_up(pki: Path, log: Recorder) -> None:
    new: dict[str, Any] = {
        "limits": {"memory_budget": 3 << 20},
        "timeouts": {"heartbeat": 0.7, "silence": 7, "handshake": 2.5, "backoff_start": 0.03},
    }
    timing = Timing(0.7, 7, 2.5)
    async with reloadable(pki) as made:
        for part in PARTS:
            await made.reload(log, part, **new)
        server = made.trio.server
        assert server.budget.total == 3 << 20
        assert [link.driver.link.timing for link in server.links] == [timing, timing]
        for role in (made.trio.client, made.trio.proxy):
            assert role._budget.total == 3 << 20
            assert [end.driver.link.timing for end in role.ends] == [timing]
            assert role._dialer.handshake_timeout == 2.5
            assert role._keepers[0]._backoff._start == 0.03


async def test_the_log_is_opened_anew(pki: Path, log: Recorder, configured: list[str]) -> None:
    async with reloadable(pki) as made:
        for part in PARTS:
            await made.reload(log, part, log={"level": "warning"})
            await made.reload(log, part, log={"level": "warning"})
    assert configured == ["warning"] * 6
    assert [event["changed"] for event in log.of("reloaded")] == ["log.level", "nothing"] * 3


# Certificates.


@pytest.mark.parametrize("part", PARTS)
async def test_other_certificates_are_those_of_new_links(
    pki: Path, tmp_path: Path, log: Recorder, part: str
) -> None:
    async with echo_target() as target, reloadable(pki) as made:
        files = copy_of(pki, part, tmp_path)
        said = await made.reload(log, part, tls=files)
        assert said["changed"].split() == ["tls.cert_file", "tls.key_file"]
        assert await echoes(made.trio, target.port)
        for running in made.trio.proxies:  # its next link, or the server's
            await running.finish()
        made.trio.start_proxy()
        await until(lambda: len(made.trio.server.relay.links) == 2)
        await made.trio.ready()
        assert await echoes(made.trio, target.port)


def copy_of(pki: Path, part: str, directory: Path) -> dict[str, Any]:
    """The same certificate and key, elsewhere."""
    for name in ("cert.pem", "key.pem"):
        (directory / name).touch(0o600)
        (directory / name).write_bytes((pki / part / name).read_bytes())
    return {
        "cert_file": directory / "cert.pem",
        "key_file": directory / "key.pem",
        "ca_file": pki / "ca" / "cert.pem",
    }


@pytest.mark.parametrize("part", PARTS)
async def test_certificates_of_no_use_are_refused_and_all_else_with_them(
    pki: Path, tmp_path: Path, log: Recorder, part: str
) -> None:
    async with echo_target() as target, reloadable(pki) as made:
        files = {**copy_of(pki, part, tmp_path), "cert_file": tmp_path / "none.pem"}
        said = await made.reload(log, part, tls=files, limits={"max_connections": 1})
        assert "none.pem: no such file" in said["error"]
        with await made.trio.connect(target.port), await made.trio.connect(target.port) as second:
            await write(second, b"x")
            assert await read(second, 1) == b"x"
    assert not log.of("reloaded")


async def test_files_that_are_renewed_are_looked_at_at_once(
    tmp_path: Path, log: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunneler.pki.renewal.LOOK_SECONDS", 3600.0)
    generate(tmp_path, ["127.0.0.1"], force=False, now=datetime.now(UTC))
    async with echo_target() as target, reloadable(tmp_path) as made:
        certificate = tmp_path / "proxy" / "cert.pem"
        content = certificate.read_bytes()
        certificate.write_bytes(b"")
        said = await made.reload(log, "proxy", limits={"max_connections": 77})
        assert said["changed"] == "limits.max_connections"
        assert "expected a certificate" in str(log.of("certificate_not_renewed")[0]["reason"])
        certificate.write_bytes(content)
        assert await echoes(made.trio, target.port)


# What cannot be.


@pytest.mark.parametrize("part", PARTS)
async def test_what_needs_a_restart_is_named_and_waits(pki: Path, log: Recorder, part: str) -> None:
    changed: dict[str, dict[str, Any]] = {
        "client": {"client_id": "other", "server_addr": "127.0.0.1:1"},
        "server": {"transport": "grpcio"},
        "proxy": {"proxy_id": "other", "group": "proxy-1"},
    }
    async with echo_target() as target, reloadable(pki) as made:
        said = await made.reload(log, part, **changed[part])
        assert said["changed"] == "nothing"
        waiting = set(log.of("restart_needed")[0]["changed"].split())
        assert waiting == set(changed[part]) - {"group"}
        assert await echoes(made.trio, target.port)


async def test_rules_that_cannot_be_are_refused(pki: Path, log: Recorder, configured: list[str]) -> None:
    """A passed socket of one family cannot take what the other's rules would bring."""
    async with stage(pki) as trio:
        made = Reloadable(trio)
        made.start("client")
        await until(lambda: trio.client._acceptors)
        trio.client._listening = [trio.client._acceptors[0].socket]
        said = await made.reload(
            log, "client", target_cidr=["100.64.0.0/10", "2001:db8::/32"], log={"level": "error"}
        )
        assert "the .socket unit takes no IPv6" in said["error"]
    assert configured == ["error", "info"]
