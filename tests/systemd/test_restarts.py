"""Restarts, stops, crashes, a loop that is stuck: what a user notices, and that all comes back by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.readme import ROOT, example
from tests.systemd.services import ROLES, Site, Unit, rules
from tunneler.addresses import Role

pytestmark = pytest.mark.timeout(120)

BACK = 10.0
"""Seconds until the path works again after a program was restarted or killed; a link takes up to five."""

STUCK = """
import signal, time

def stick(number, frame):
    while True:
        time.sleep(3600)

signal.signal(signal.SIGUSR2, stick)
"""
"""Imported by Python as it starts (see its module site): SIGUSR2 then holds up the event loop for good."""

services: Callable[[Site, str], Unit] = getattr
ALL = ("server", "proxy", "client", "capture")


@pytest.mark.parametrize("name", ALL)
def test_a_restart(site: Site, name: str) -> None:
    unit = services(site, name)
    pid = unit.pid
    unit.systemctl("restart")
    assert unit.state == "active"
    assert unit.pid not in (0, pid)
    site.rollout.wait_for_path(BACK)


@pytest.mark.parametrize("role", ROLES)
def test_a_stop_lets_a_download_finish(changed: Site, role: Role) -> None:
    unit = changed.unit(role)
    transfer = changed.download()
    began = time.monotonic()
    unit.systemctl("stop")
    waited = time.monotonic() - began
    assert transfer.digest() == changed.digest()
    assert waited > 1
    properties = unit.show("Result", "ExecMainStatus")
    assert properties == {"Result": "success", "ExecMainStatus": "0"}


def test_a_stop_takes_longer_than_its_timeout_where_a_download_does(changed: Site) -> None:
    """While it drains it asks for more time (EXTEND_TIMEOUT_USEC), which systemd grants."""
    changed.proxy.drop_in("[Service]\nTimeoutStopSec=1s\n")
    changed.proxy.systemctl("restart")
    changed.rollout.wait_for_path(BACK)
    transfer = changed.download()
    began = time.monotonic()
    changed.proxy.systemctl("stop")
    assert time.monotonic() - began > 1.3
    assert transfer.digest() == changed.digest()
    assert changed.proxy.get("Result") == "success"


@pytest.mark.parametrize("name", ALL)
def test_a_killed_process_comes_back(site: Site, name: str) -> None:
    unit = services(site, name)
    restarts = int(unit.get("NRestarts"))
    pid = unit.kill("KILL")
    unit.wait_restarted(pid)
    assert int(unit.get("NRestarts")) == restarts + 1
    site.rollout.wait_for_path(BACK)
    assert rules(site) != ""


@pytest.mark.parametrize("name", ALL)
def test_a_loop_that_is_stuck_is_restarted(changed: Site, name: str) -> None:
    unit = services(changed, name)
    changed.bed.put(unit.host, "/usr/local/lib/stuck/sitecustomize.py", STUCK)
    unit.drop_in(
        "[Service]\nEnvironment=PYTHONPATH=/usr/local/lib/stuck\nWatchdogSec=2s\nTimeoutAbortSec=2s\n"
    )
    unit.systemctl("restart")
    changed.rollout.wait_for_path(BACK)
    journal = changed.journal(unit.host)
    pid = unit.kill("USR2")
    unit.wait_restarted(pid)
    assert any("Watchdog timeout" in entry["MESSAGE"] for entry in journal.entries(UNIT=unit.name))
    changed.rollout.wait_for_path(BACK)


def test_a_watchdog_leaves_alone_what_works(changed: Site) -> None:
    """Idle or busy: a loop that turns says so in time."""
    pids = {}
    for name in ALL:
        unit = services(changed, name)
        unit.drop_in("[Service]\nWatchdogSec=2s\n")
        unit.systemctl("restart")
    changed.rollout.wait_for_path(BACK)
    for name in ALL:
        pids[name] = services(changed, name).pid
    assert changed.download().digest() == changed.digest()
    assert {name: services(changed, name).pid for name in ALL} == pids


CONNECTS = r"""
import os, socket, ssl, sys, threading, time

context = ssl.create_default_context(cafile="/etc/tunneler/tls/client/ca.pem")
context.load_cert_chain("/etc/tunneler/tls/client/cert.pem", "/etc/tunneler/tls/client/key.pem")
context.set_alpn_protocols(["h2"])
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
results = []

def attempt():
    began = time.monotonic()
    while (result := attempt_once()) == "lost" and time.monotonic() < began + 30:
        losses.append(result)  # who waits for readiness tries again
        time.sleep(0.1)
    results.append(result)
    slowest.append(time.monotonic() - began)

def attempt_once():
    try:
        with socket.create_connection((sys.argv[1], 8081), timeout=10) as raw:
            connected = time.monotonic()
            with context.wrap_socket(raw, server_hostname=sys.argv[1]) as tls:
                tls.sendall(PREFACE)
                return "ready" if tls.recv(9)[3:4] == b"\x04" else "lost"
    except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return "lost"  # accepted by a server that ended just then
    except OSError as error:
        return f"{type(error).__name__}: {error}"

def ended():
    return os.path.exists("/run/connects.end")

slowest, losses = [], []
threads = []
while not ended():
    thread = threading.Thread(target=attempt)
    thread.start()
    threads.append(thread)
    time.sleep(0.05)
for thread in threads:
    thread.join()
for result in sorted(set(results)):
    print(results.count(result), result)
print(f"{max(slowest):.2f} slowest, {len(losses)} lost meanwhile")
"""
"""Twenty times a second: connect, TLS, HTTP/2, and wait for the first frame of the server (SETTINGS)."""


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("transport", "restarts"), [("native", 20), ("grpcio", 10)])
def test_restarts_of_the_server_refuse_nobody(changed: Site, transport: str, restarts: int) -> None:
    if transport == "grpcio":
        _install_for_grpcio(changed)
    changed.server.systemctl("restart")
    changed.bed.put("client", "/usr/local/bin/connects.py", CONNECTS)
    output = "/run/connects.txt"
    options = f"--quiet --unit=connects -p RemainAfterExit=yes -p StandardOutput=truncate:{output}"
    changed.run("client", f"systemd-run {options} python3 /usr/local/bin/connects.py 10.77.1.1")
    for _ in range(restarts):
        changed.server.systemctl("restart")
        time.sleep(0.5)  # at work for a moment, as it would be
    changed.run("client", "touch /run/connects.end")
    connects = Unit(changed.bed, "client", "connects.service")
    connects.wait_for(lambda: connects.get("SubState") in ("exited", "failed"), "all connects end", 30)
    said = changed.run(
        "client", f"cat {output}; rm {output} /run/connects.end; systemctl stop connects.service"
    )
    counts = [line.split(" ", 1) for line in said.splitlines()[:-1]]
    assert [result for _, result in counts] == ["ready"], said
    assert int(counts[0][0]) > 8 * restarts, said  # 20 a second, and a restart takes about one
    assert changed.server_socket.state == "active"
    assert changed.server.get("NRestarts") == "0"
    changed.rollout.wait_for_path(40)  # whose links were broken that often waits longer for the next


def _install_for_grpcio(site: Site) -> None:
    source = ROOT / "packaging/systemd/grpcio"
    for path in filter(Path.is_file, source.rglob("*")):
        site.bed.put("server", f"/root/grpcio/{path.relative_to(source)}", path.read_bytes())
    site.run("server", f"cd /root/grpcio && {example('packaging/systemd/grpcio/README.md', 'install')}")
