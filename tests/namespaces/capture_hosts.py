"""Three hosts for the tests of capture, with an agent inside each that makes and answers connections.

::

    lan ──── client ──── far      far has the captured, excluded and foreign addresses as its own

What is not captured arrives at ``far``, so that "not captured" is seen as an arrival too, and not as
silence. Whoever accepts a connection says in one line what it knows about it, and closes.

The agent is ``capture_agent.py``: one JSON request a line, one JSON answer a line.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed import Host, HostSpec, Lab, Topology
from testbed.topology import Attachment, StaticRoute
from tunneler.addresses import Endpoint
from tunneler.errors import CaptureError

ROOT = Path(__file__).parents[2]
ANSWER_TIMEOUT = 15.0

CAPTURED = {4: "100.64.1.5", 6: "2001:db8:64::5"}
EXCLUDED = {4: "100.64.2.5", 6: "2001:db8:64:2::5"}
FOREIGN = {4: "198.51.100.7", 6: "2001:db8:99::7"}
SERVER = {4: "100.64.3.5", 6: "2001:db8:64:3::5"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
NETWORKS = ("100.64.0.0/10", "2001:db8:64::/48")
EXCLUDE = ("100.64.2.0/24", "2001:db8:64:2::/64")

LIST_RULES = """
for command in iptables-legacy-save ip6tables-legacy-save; do $command -t nat; done
nft list ruleset
"""
REMOVE_RULES = """
for command in iptables-legacy ip6tables-legacy; do
    $command -t nat -F; $command -t nat -X
done
nft flush ruleset
"""

CAPTURE_PORT = 9999
IPV4_ONLY_CAPTURE_PORT = 9998
UNHEARD_PORT = 9997
ECHO_PORT = 9996
WEB_PORT = 80
NOBODY = 65534


def topology() -> Topology:
    far_addresses = [address for group in (CAPTURED, EXCLUDED, FOREIGN, SERVER) for address in group.values()]

    def attach(net: str, *addresses: str) -> Attachment:
        return Attachment(net, tuple(ip_interface(address) for address in addresses))

    def via(ipv4: str, ipv6: str) -> tuple[StaticRoute, StaticRoute]:
        return (
            StaticRoute(ip_network("0.0.0.0/0"), ip_address(ipv4)),
            StaticRoute(ip_network("::/0"), ip_address(ipv6)),
        )

    inside, outside = ("10.55.0.1/24", "fd55::1/64"), ("10.77.1.2/24", "fd77:1::2/64")
    client = HostSpec(
        "client",
        (attach("lan", *inside), attach("access", *outside)),
        via("10.77.1.1", "fd77:1::1"),
        forwards=True,
    )
    lan = HostSpec("lan", (attach("lan", "10.55.0.2/24", "fd55::2/64"),), via("10.55.0.1", "fd55::1"))
    far = HostSpec(
        "far",
        (attach("access", "10.77.1.1/24", "fd77:1::1/64", *far_addresses),),
        via("10.77.1.2", "fd77:1::2"),
    )
    return Topology((lan, client, far))


def captured(address: str, port: int = 80) -> str:
    return f"captured {Endpoint.of(address, port)}"


def direct(address: str, port: int = 80) -> str:
    return f"direct {Endpoint.of(address, port)}"


class Agent:
    """What a test says to the agent in a host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._process = subprocess.Popen(
            host.command(sys.executable, "-W", "error", "-m", "tests.namespaces.capture_agent"),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "XTABLES_LOCKFILE": f"/run/{host.namespace}.xtables.lock"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process as process:
            try:
                process.communicate(timeout=ANSWER_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
        Path(f"/run/{self.host.namespace}.xtables.lock").unlink(missing_ok=True)

    def call(self, function: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of ``capture_agent.Inside``.

        Raises:
            CaptureError: the function did.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([function, arguments, options]) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_TIMEOUT)
        answer = self._process.stdout.readline() if ready else ""
        if not answer:
            raise AssertionError(f"the agent in {self.host.name} did not answer {function}{arguments}")
        result = json.loads(answer)
        if "error" in result:
            raise CaptureError(result["error"])
        return result["result"]

    def connect(self, address: str, port: int = WEB_PORT, *, uid: int | None = None) -> str:
        """What the party that accepted the connection said, or why there was none."""
        answer: str = self.call("connect", address, port, uid=uid)
        return answer


class Hosts:
    """The lab with its agents."""

    def __init__(self, lab: Lab, agents: dict[str, Agent]) -> None:
        self.lab = lab
        self.lan, self.client, self.far = agents["lan"], agents["client"], agents["far"]

    def shell(self, script: str) -> str:
        """The output of shell commands in the client."""
        return self.lab.host("client").run("bash", "-euc", script).stdout

    def rules(self) -> str:
        """All rules of the client, without dates and counters."""
        return re.sub(r"(?m)^#.*\n|\[\d+:\d+\]|packets \d+ bytes \d+", "", self.shell(LIST_RULES))

    def clean(self) -> None:
        """Remove all rules of the client."""
        self.shell(REMOVE_RULES)


@contextmanager
def capture_hosts() -> Iterator[Hosts]:
    """The hosts, up and listening."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(topology()))
        agents = {name: stack.enter_context(Agent(lab.host(name))) for name in ("lan", "client", "far")}
        agents["client"].call("listen", CAPTURE_PORT, "captured")
        agents["client"].call("listen", IPV4_ONLY_CAPTURE_PORT, "captured", ipv4_only=True)
        agents["client"].call("listen", WEB_PORT, "direct")
        agents["client"].call("echo", ECHO_PORT)
        agents["far"].call("listen", WEB_PORT, "direct")
        agents["far"].call("listen_for_datagrams", WEB_PORT)
        yield Hosts(lab, agents)
