"""``python -m testbed.demo``: the product at work, on four hosts made for the occasion.

What is shown was measured, or read from the programs' own logs, while it ran.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from testbed.hosts import Host
from testbed.namespaces import NAMESPACE_DIRECTORY, Lab
from testbed.page import Page, Stopwatch
from testbed.processes import CommandFailed, ProcessEndedError
from testbed.story import IncompleteStory, story
from testbed.suite import CAPTURED, SITE, TARGET, Event, Suite
from testbed.topology import standard_topology
from testbed.web import Web

MEBIBYTE = 1024 * 1024
DOWNLOAD = 256 * MEBIBYTE
DOWNLOAD_DEADLINE = 60.0
REQUESTS = 200
WEB_PAGE = "Hello from 192.168.1.5, a web server that knows nothing of tunneler.\n"
DIRECT_TARGET = "192.168.1.5"
PYTHON = os.path.relpath(sys.executable)
INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell gives it (128 + SIGINT)."""


def main() -> int:
    """Run the demonstration; its exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Four hosts in network namespaces, three roles, one curl; then everything is removed.",
    )
    parser.add_argument("--keep", action="store_true", help="leave it running, and say how to look around")
    keep = parser.parse_args().keep
    if os.geteuid() != 0:
        print("demo: run as root: network namespaces cannot be made otherwise", file=sys.stderr)
        return 1
    page = Page()
    directory = Path(tempfile.mkdtemp(prefix="tunneler-demo-"))
    lab = Lab(standard_topology())
    kept = False
    try:
        suite = _show(page, lab, directory)
        if keep:
            _explain(page, suite)
            lab.keep()
            kept = True
        else:
            _stop(page, suite)
    except KeyboardInterrupt:
        page.heading("Interrupted")
        return INTERRUPTED
    except (CommandFailed, ProcessEndedError, IncompleteStory, TimeoutError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    finally:
        if not kept:
            _clean_up(page, lab, directory)
    return 0


def _show(page: Page, lab: Lab, directory: Path) -> Suite:
    suite = _set_up(page, lab, directory)
    web = _start_web(lab.host("target"), directory)
    _show_answer(page, suite, web)
    _show_latency(page, lab)
    _show_download(page, lab, directory, web)
    return suite


# ---------------------------------------------------------------------------- setting up


def _set_up(page: Page, lab: Lab, directory: Path) -> Suite:
    page.heading("Four hosts, a certificate authority, three programs")
    timed = Stopwatch()
    lab.up()
    page.line()
    page.line("client 10.77.1.2  ──mTLS──▶  server  ◀──mTLS──  10.77.2.2 proxy  ──TCP──▶  192.168.1.5 target")
    page.line()
    page.fact("hosts", f"network namespaces {lab.prefix}-{{client,server,proxy,target}}, made in {timed()}")
    suite = Suite(lab, directory)
    suite.make_certificates()
    page.fact("certificates", f"tunneler-gencerts → {suite.certificates}, in {timed()}")
    suite.add_three_roles(client={"client_id": "client-1"})
    suite.start()
    for member in suite.members.values():
        command = f"{member.program.name} --config {member.config_file.name}"
        page.fact(str(member.role), f"{command:<38} pid {member.pid:<7} {_greeting(suite, member.name)}")
    page.fact("ready", f"in {timed()}: rules in, links up, routes known")
    return suite


def _greeting(suite: Suite, name: str) -> str:
    if name == "server":
        return f"listens on {suite.server.wait_for('listening')['address']}"
    if name == "proxy":
        return f"manages {SITE}"
    backend = suite.client.wait_for("capture_installed")["backend"]
    return f"captures {CAPTURED} ({backend})"


def _start_web(target: Host, directory: Path) -> Web:
    web = Web(target, directory / "web")
    (web.files / "index.html").write_text(WEB_PAGE, encoding="ascii")
    block = random.randbytes(MEBIBYTE)
    with (web.files / "download").open("wb") as file:
        for number in range(DOWNLOAD // MEBIBYTE):
            file.write(number.to_bytes(8) + block[8:])
    return web


# ---------------------------------------------------------------------------- showing


def _show_answer(page: Page, suite: Suite, web: Web) -> None:
    page.heading(f"An unmodified program on the client's network fetches http://{TARGET}/")
    page.line()
    page.command("client", f"curl http://{TARGET}/")
    answer = suite.lab.host("client").run("curl", "-sS", "-m", "10", f"http://{TARGET}/").stdout
    page.line(answer.rstrip())
    connection = suite.client.wait_for("connection_captured")["connection"]
    page.heading("How it happened, as the three programs logged it")
    page.line()
    page.line(page.paint(2, f"{'ms':>6}  {'host':<7} {'event':<20} step"))
    for chapter in story(_logs_of(suite, connection), connection):
        start = f"{chapter.when:6.{chapter.decimals}f}  {chapter.host:<7} {chapter.event:<20}"
        for number, text in chapter.steps:
            page.line(f"{page.paint(2, start)} {page.paint(1, f'{number:>2}')} {text}")
            start = " " * len(start)
    who, _, request = web.accesses()[0].partition(" ")
    page.line()
    page.line(f"{'':6}  {'target':<7} its access log says: {who} asked {request.rpartition(' ')[0]}")


def _logs_of(suite: Suite, connection: str) -> list[Event]:
    """All logs, once the end of that connection is in each of them."""
    for member in suite.members.values():
        member.wait_for("connection_closed", connection=connection)
    return [event for member in suite.members.values() for event in member.events()]


def _show_latency(page: Page, lab: Lab) -> None:
    page.heading(f"{REQUESTS} small requests, one after the other, each on a new connection")
    page.line()
    page.line(page.paint(2, f"{'':34}{'connect':^20}{'whole request':^22}"))
    page.line(page.paint(2, f"{'':34}{'median':>9}{'p99':>9}  {'median':>11}{'p99':>9}"))
    for name, host, address in (
        ("client, through tunneler", "client", TARGET),
        ("proxy, directly", "proxy", DIRECT_TARGET),
    ):
        connects, totals = _time_requests(lab.host(host), address)
        cells = [_milliseconds(f(times)) for times in (connects, totals) for f in (statistics.median, _p99)]
        page.line(f"{name:<34}{cells[0]:>9}{cells[1]:>9}  {cells[2]:>11}{cells[3]:>9}")


def _time_requests(host: Host, address: str) -> tuple[list[float], list[float]]:
    """Seconds to connect, and in all, of each request."""
    done = host.run(
        *("curl", "-sS", "-m", "10", "-H", "Connection: close", "-o", "/dev/null"),
        *("-w", "%{time_connect} %{time_total}\n", f"http://{address}/?[1-{REQUESTS}]"),
    )
    times = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    return [connect for connect, _ in times], [total for _, total in times]


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[98]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def _show_download(page: Page, lab: Lab, directory: Path, web: Web) -> None:
    page.heading(f"A download of {DOWNLOAD // MEBIBYTE} MiB")
    page.line()
    wanted = _digest(web.files / "download")
    for name, host, address in (
        ("client, through tunneler", "client", TARGET),
        ("proxy, directly", "proxy", DIRECT_TARGET),
    ):
        copy = directory / f"download.{host}"
        done = lab.host(host).run(
            *("curl", "-sS", "-o", copy, "-w", "%{json}", f"http://{address}/download"),
            timeout=DOWNLOAD_DEADLINE,
        )
        seconds = json.loads(done.stdout)["time_total"]
        same = _digest(copy) == wanted
        if not same:
            raise IncompleteStory(f"the download of the {host} is not what the target serves")
        rate = DOWNLOAD / seconds / MEBIBYTE
        page.line(
            f"{name:<34}{seconds:6.2f} s {rate:9.0f} MiB/s {rate * 8.388608:9.0f} Mbit/s   SHA-256 equal"
        )
        copy.unlink()
    page.fact("SHA-256", wanted)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------------- the end


def _explain(page: Page, suite: Suite) -> None:
    inside: Callable[[str], str] = "ip netns exec {}".format
    client, proxy = (inside(suite.lab.host(name).namespace) for name in ("client", "proxy"))
    rules = {"nftables": "nft list ruleset", "iptables": "iptables-legacy -t nat -S"}
    backend = suite.client.wait_for("capture_installed")["backend"]
    page.heading("It is still running")
    page.line()
    for what, command in (
        ("ask again", f"{client} curl http://{TARGET}/"),
        ("a shell on the client", f"{client} bash"),
        ("the capture rules", f"{client} {rules[backend]}"),
        ("the proxy's sockets", f"{proxy} ss -tnp"),
        ("the logs", f"tail -f {suite.directory}/{{client,server,proxy}}.1.log"),
        ("a configuration", f"cat {suite.client.config_file}"),
        ("the certificates", f"ls -l {suite.certificates}/*"),
        ("end it", f"{PYTHON} -m testbed && rm -r {suite.directory}"),
    ):
        page.line(f"{page.paint(2, f'{what:<23}')}{command}")


def _stop(page: Page, suite: Suite) -> None:
    page.heading("SIGTERM to all three")
    page.line()
    for name, status in suite.stop().items():
        last = suite[name].events()[-1]["event"]
        page.fact(name, f"exit status {status}; the last that it logged is {last}")
    rules = suite.lab.host("client").run("bash", "-c", "nft list ruleset; iptables-legacy-save -t nat").stdout
    page.fact("rules", "still there" if "unneler" in rules else "none left in the client")


def _clean_up(page: Page, lab: Lab, directory: Path) -> None:
    try:
        prefix = lab.prefix
    except RuntimeError:  # it never came up, or took itself down
        prefix = ""
    hosts = [lab.host(spec.name) for spec in lab.topology.hosts] if prefix else []
    pids = [pid for host in hosts for pid in host.pids()]
    lab.down()
    shutil.rmtree(directory)
    left = [name for name in os.listdir(NAMESPACE_DIRECTORY) if prefix and name.startswith(f"{prefix}-")]
    left += [f"process {pid}" for pid in pids if Path(f"/proc/{pid}").exists()]
    page.heading("Left behind: " + (", ".join(left) or "nothing"))
    page.line(
        f"{len(pids)} processes ended, {len(hosts)} hosts and {directory} removed; "
        f"{page.elapsed:.1f} s in all"
    )


if __name__ == "__main__":
    sys.exit(main())
