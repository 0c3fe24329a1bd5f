"""The three roles as a user runs them, on the hosts of a lab: certificates, configuration files, programs.

::

    with Lab(standard_topology()) as lab, Suite(lab, directory) as suite:
        suite.add_three_roles(proxy={"timeouts": {"dial": "1s"}})
        suite.start()
        lab.host("client").run("curl", "-sS", "http://100.64.1.5/")
        opened = suite.client.wait_for("connection_opened")

A role is ready when its own log says so; nothing here looks inside the programs.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.members import PROGRAMS, Event, Member, Settings, Usage, merged
from testbed.namespaces import Lab
from tunneler.addresses import Role

__all__ = [
    "CAPTURED",
    "PORT",
    "PROGRAMS",
    "SITE",
    "TARGET",
    "Event",
    "Member",
    "Settings",
    "Suite",
    "Usage",
]

PORT = 8081
CAPTURED = "100.64.0.0/10"
SITE = "192.168.1.0/24"
TARGET = "100.64.1.5"
"""Virtual address of the standard topology's target, 192.168.1.5."""


class Suite:
    """The programs of a lab, with one certificate authority between them.

    As a context manager it stops the programs at the end, the last one added first.
    """

    def __init__(self, lab: Lab, directory: Path, *, log_level: str = "debug") -> None:
        self.lab = lab
        self.directory = directory
        self.certificates = directory / "certs"
        self.members: dict[str, Member] = {}
        self._log_level = log_level

    def make_certificates(self) -> None:
        """Run ``tunneler-gencerts``, unless it has been done."""
        if not self.certificates.exists():
            server = self.lab.host("server")
            names = [part for ip in server.spec.addresses() for part in ("--server-name", str(ip))]
            server.run(PROGRAMS / "tunneler-gencerts", "--dir", self.certificates, *names)

    def add(
        self,
        role: Role,
        settings: Settings,
        *,
        name: str = "",
        host: str = "",
        certificates: Path | None = None,
    ) -> Member:
        """Add a program, without starting it.

        Args:
            settings: its configuration, except for what the suite says itself (``tls`` and ``log``).
            name: of the program among the members; the role if not given.
            host: where it runs; the host of its name if not given.
            certificates: a directory of gencerts instead of the suite's.
        """
        self.make_certificates()
        own, name = certificates or self.certificates, name or str(role)
        base: Settings = {
            "tls": {
                "cert_file": str(own / role / "cert.pem"),
                "key_file": str(own / role / "key.pem"),
                "ca_file": str(own / "ca" / "cert.pem"),
            },
            "log": {"level": self._log_level},
        }
        member = Member(name, role, self.lab.host(host or name), self.directory, merged(base, settings))
        self.members[name] = member
        return member

    def add_three_roles(
        self, *, server: Settings | None = None, proxy: Settings | None = None, client: Settings | None = None
    ) -> None:
        """Add server, proxy and client as they are in the product's picture; arguments add settings."""
        self.add(Role.SERVER, merged({"listen_addr": f":{PORT}"}, server or {}))
        site = {"server_addr": self.server_address("uplink"), "proxy_id": "proxy-1", "managed_cidr": SITE}
        self.add(Role.PROXY, merged(site, proxy or {}))
        access = {"server_addr": self.server_address("access"), "target_cidr": CAPTURED}
        self.add(Role.CLIENT, merged(access, client or {}))

    def server_address(self, net: str) -> str:
        """HOST:PORT of the server, as seen from one net."""
        return f"{self.lab.host('server').address_on(net)}:{PORT}"

    def start(self) -> None:
        """Start the members that do not run, servers first, and wait until they work."""
        waiting = [member for member in self.members.values() if not member.running]
        servers = [member for member in waiting if member.role is Role.SERVER]
        # A proxy or client that is earlier than its server works too, but it waits for its next attempt.
        for group in (servers, [member for member in waiting if member not in servers]):
            for member in group:
                member.start()
            for member in group:
                member.wait_ready()

    def stop(self) -> dict[str, int]:
        """Stop what runs; exit status by name."""
        running = [member for member in reversed(self.members.values()) if member.running]
        return {member.name: member.stop() for member in running}

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    @property
    def server(self) -> Member:
        return self.members["server"]

    @property
    def proxy(self) -> Member:
        return self.members["proxy"]

    @property
    def client(self) -> Member:
        return self.members["client"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in reversed(self.members.values()):
            if member.running:
                member.process.stop()  # by force, if it would drain for long
