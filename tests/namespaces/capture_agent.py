"""What runs inside the hosts of ``capture_hosts.py``: makes and answers connections, installs rules."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.namespaces.capture_hosts import CAPTURE_PORT, EXCLUDE, NETWORKS
from tunneler.addresses import HostPort, parse_network
from tunneler.capture.original import DestinationCheck, accepted_at, original_destination
from tunneler.capture.rules import CaptureBackend, CapturePlan
from tunneler.capture.select import backend, plan_for
from tunneler.errors import CaptureError

CONNECT_TIMEOUT = 3.0


class Inside:
    """The functions of an agent, and what they share."""

    def __init__(self) -> None:
        self._plan = CapturePlan((), CAPTURE_PORT)
        self._backends: dict[str, CaptureBackend] = {}
        self._held = socket.socket()

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

    def judge_by(self, **plan: Any) -> None:
        """Take a plan for that by which connections arrive, though somebody else installs it."""
        self._plan = _plan(**plan)

    def open(self, address: str, port: int) -> None:
        """Connect, and stay connected; the other end is an echo."""
        self._held.close()
        self._held = socket.create_connection((address, port), CONNECT_TIMEOUT)

    def exchange(self, text: str) -> str:
        """Say something on the connection that is open, and hear it come back."""
        try:
            self._held.sendall(text.encode())
            return self._held.recv(1000).decode()
        except OSError as error:
            return type(error).__name__

    def close(self) -> None:
        """Close it."""
        self._held.close()

    def echo(self, port: int) -> None:
        """Answer every connection to a port with what it says."""
        listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=self._echo_all, args=(listener,), daemon=True).start()

    def _echo_all(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while said := connection.recv(1000):
                connection.sendall(said)

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
    inside = Inside()
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
