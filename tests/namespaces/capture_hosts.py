"""Three hosts for the tests of capture, with an agent inside each that makes and answers connections.

::

    lan ──── client ──── far      far has the captured, excluded and foreign addresses as its own

What is not captured arrives at ``far``, so that "not captured" is seen as an arrival too, and not as
silence. Whoever accepts a connection says in one line what it knows about it, and closes.

An agent is this module run as a program: one JSON request a line, one JSON answer a line.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed import Host, HostSpec, Lab, Topology
from testbed.topology import Attachment, StaticRoute
from tunneler.addresses import HostPort, parse_network
from tunneler.capture.original import DestinationCheck, accepted_at, original_destination
from tunneler.capture.rules import CaptureBackend, CapturePlan
from tunneler.capture.select import backend, plan_for
from tunneler.errors import CaptureError

ROOT = Path(__file__).parents[2]
ANSWER_TIMEOUT = 15.0
CONNECT_TIMEOUT = 3.0

CAPTURED = {4: "100.64.1.5", 6: "2001:db8:64::5"}
EXCLUDED = {4: "100.64.2.5", 6: "2001:db8:64:2::5"}
FOREIGN = {4: "198.51.100.7", 6: "2001:db8:99::7"}
SERVER = {4: "100.64.3.5", 6: "2001:db8:64:3::5"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
NETWORKS = ("100.64.0.0/10", "2001:db8:64::/48")
EXCLUDE = ("100.64.2.0/24", "2001:db8:64:2::/64")

CAPTURE_PORT = 9999
IPV4_ONLY_CAPTURE_PORT = 9998
UNHEARD_PORT = 9997
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


# ---------------------------------------------------------------------------- outside


class Agent:
    """What a test says to the agent in a host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._process = subprocess.Popen(
            host.command(sys.executable, "-W", "error", "-m", "tests.namespaces.capture_hosts"),
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
        """Call one of FUNCTIONS in the host.

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


@contextmanager
def capture_hosts() -> Iterator[Hosts]:
    """The hosts, up and listening."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(topology()))
        agents = {name: stack.enter_context(Agent(lab.host(name))) for name in ("lan", "client", "far")}
        agents["client"].call("listen", CAPTURE_PORT, "captured")
        agents["client"].call("listen", IPV4_ONLY_CAPTURE_PORT, "captured", ipv4_only=True)
        agents["client"].call("listen", WEB_PORT, "direct")
        agents["far"].call("listen", WEB_PORT, "direct")
        agents["far"].call("listen_for_datagrams", WEB_PORT)
        yield Hosts(lab, agents)


# ----------------------------------------------------------------------------- inside


class _Inside:
    """The functions of an agent, and what they share."""

    def __init__(self) -> None:
        self._plan = CapturePlan((), CAPTURE_PORT)
        self._backends: dict[str, CaptureBackend] = {}

    def listen(self, port: int, word: str, *, ipv4_only: bool = False) -> None:
        """Answer every connection to a port with the word and what is known about the connection."""
        family = socket.AF_INET if ipv4_only else socket.AF_INET6
        listener = socket.create_server(
            ("", port), family=family, dualstack_ipv6=not ipv4_only, backlog=64, reuse_port=False
        )
        threading.Thread(target=self._answer, args=(listener, word), daemon=True).start()

    def _answer(self, listener: socket.socket, word: str) -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                local = accepted_at(connection)
                text = f"{word} {local}" if word == "direct" else self._judge(connection)
                connection.sendall(text.encode())

    def _judge(self, connection: socket.socket) -> str:
        try:
            original = original_destination(connection)
        except CaptureError as error:
            return f"refused: {error}"
        reason = DestinationCheck(self._plan).refuse_reason(original, accepted_at(connection))
        return f"captured {original}" if reason is None else f"refused: {reason}"

    def listen_for_datagrams(self, port: int) -> None:
        """Answer every datagram to a port."""
        listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        listener.bind(("", port))
        threading.Thread(target=self._answer_datagrams, args=(listener,), daemon=True).start()

    def _answer_datagrams(self, listener: socket.socket) -> None:
        while True:
            text, sender = listener.recvfrom(1000)
            listener.sendto(b"direct " + text, sender)

    def send_datagram(self, address: str, port: int, text: str) -> str:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.settimeout(CONNECT_TIMEOUT)
            try:
                # Not connected: the answer comes from far's first address, and may.
                sender.sendto(text.encode(), (address, port))
                return sender.recv(1000).decode()
            except OSError as error:
                return type(error).__name__

    def connect(self, address: str, port: int, uid: int | None = None) -> str:
        try:
            if uid is not None:
                os.seteuid(uid)
            with socket.create_connection((address, port), CONNECT_TIMEOUT) as connection:
                return connection.recv(1000).decode() or "closed without a word"
        except OSError as error:
            return type(error).__name__
        finally:
            os.seteuid(0)

    def install(self, name: str, **plan: Any) -> None:
        self._plan = _plan(**plan)
        self._backend(name).install(self._plan)

    def check(self, name: str, **plan: Any) -> list[str]:
        return self._backend(name).check(_plan(**plan))

    def remove(self, name: str) -> None:
        self._backend(name).remove()

    def installed(self, name: str) -> bool:
        return self._backend(name).installed()

    def automatic(self) -> str:
        return backend("auto").name

    def _backend(self, name: Any) -> CaptureBackend:
        # Kept, as a client would keep it: what it remembers of the rules must not mislead it.
        if name not in self._backends:
            self._backends[name] = backend(name)
        return self._backends[name]


def _plan(**options: Any) -> CapturePlan:
    return plan_for(
        networks=map(parse_network, options.get("networks", NETWORKS)),
        listen_port=options.get("listen_port", CAPTURE_PORT),
        exclude=map(parse_network, options.get("exclude", EXCLUDE)),
        servers=[HostPort(host, 8081) for host in options.get("servers", ())],
        gateway=options.get("gateway", False),
        user=options.get("user"),
    )


def serve() -> None:
    """Answer requests until the input ends."""
    inside = _Inside()
    for line in sys.stdin:
        name, arguments, options = json.loads(line)
        function: Callable[..., Any] = getattr(inside, name)
        try:
            answer = {"result": function(*arguments, **options)}
        except CaptureError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
