"""What the target serves: a small file over HTTP, and iperf3."""

from __future__ import annotations

from pathlib import Path

from bench.cases import HTTP_PORT, IPERF_PORT
from testbed import Host, Lab, Process
from testbed.web import Web

BODY = "x" * 127 + "\n"
START_DEADLINE = 10.0

# The same for every subject. A port is not to be waited for: 32 clients that connect afresh for every
# request use up the default range within seconds.
_SYSCTLS = ("net.ipv4.ip_local_port_range=10000 65535", "net.core.somaxconn=4096")


def prepare(lab: Lab, directory: Path) -> None:
    """Start the web server and set what every host has in common."""
    for spec in lab.topology.hosts:
        lab.host(spec.name).run("sysctl", "-q", "-w", *_SYSCTLS)
    web = Web(lab.host("target"), directory, HTTP_PORT, log_accesses=False)
    (web.files / "index.html").write_text(BODY, encoding="ascii")


def start_iperf3(target: Host, log: Path) -> Process:
    """Start an iperf3 server; a new one for each case, because a test that was cut off leaves it busy."""
    server = target.spawn("iperf3", "-s", "-p", str(IPERF_PORT), "--forceflush", log=log)
    server.wait_for_line(lambda line: "Server listening" in line, START_DEADLINE)
    return server
