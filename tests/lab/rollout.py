"""The product on the hosts of a lab, as an administrator would set it up: keys, configurations, units.

What is installed on every host (programs, units) came with its disk; here it becomes one of the roles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from testbed.members import merged
from testbed.processes import execute, wait_until
from testbed.suite import CAPTURED, PORT, PROGRAMS, SITE, TARGET
from tests.lab.bed import Bed, BedError
from tunneler.addresses import Role

Settings = Mapping[str, Any]
PAGE = "what the target serves\n"
GENCERTS_TIMEOUT = 30.0
PATH_DEADLINE = 30.0
"""Seconds until the path works after everything was started; it takes two."""

UNITS = {
    Role.SERVER: ("tunneler-server.socket", "tunneler-server.service"),
    Role.PROXY: ("tunneler-proxy.socket", "tunneler-proxy.service"),
    Role.CLIENT: ("tunneler-client.socket",),
}
"""What an administrator enables; a client's service is started by its first connection."""

_AFTER_INSTALLATION = (
    "systemd-sysusers",
    "systemd-tmpfiles --create tunneler.conf",
    "journalctl --update-catalog",
)
"""What the installation of a package would have run."""


class Rollout:
    """One certificate authority, and the settings of each role; ``directory`` is for the authority."""

    def __init__(self, bed: Bed, directory: Path) -> None:
        self.bed = bed
        self.certificates = directory
        server = bed.topology.host("server")
        proxies, clients = (f"{server.ipv4(net)}:{PORT}" for net in ("uplink", "access"))
        self.settings: dict[Role, Settings] = {
            Role.SERVER: {"listen_addr": f":{PORT}"},
            Role.PROXY: {"server_addr": proxies, "proxy_id": "proxy-1", "managed_cidr": SITE},
            Role.CLIENT: {"server_addr": clients, "target_cidr": CAPTURED},
        }

    def everything(self) -> None:
        """A working path, from nothing.

        Raises:
            BedError: a step failed, or the path does not work in time.
        """
        self.make_certificates()
        serve_page(self.bed)
        for role in (Role.SERVER, Role.PROXY, Role.CLIENT):
            run(self.bed, role, " && ".join(_AFTER_INSTALLATION))
            self.install_keys(role)
            self.configure(role)
            run(self.bed, role, f"systemctl --quiet enable {' '.join(UNITS[role])}")
            run(self.bed, role, f"systemctl --no-block start {' '.join(UNITS[role])} tunneler.target")
        self.wait_for_path()

    def make_certificates(self, directory: Path | None = None) -> None:
        """Run ``tunneler-gencerts``, unless it has been done; ``directory`` of another authority."""
        directory = directory or self.certificates
        if not directory.exists():
            addresses = self.bed.topology.host("server").addresses()
            names = [part for address in addresses for part in ("--server-name", str(address))]
            command = (str(PROGRAMS / "tunneler-gencerts"), "--dir", str(directory), *names)
            execute(command, timeout=GENCERTS_TIMEOUT)

    def install_keys(self, role: Role, source: Path | None = None) -> None:
        """Give a role its key, its certificate and its authority; ``source`` as made by gencerts."""
        own = source or self.certificates
        place = f"/etc/tunneler/tls/{role}"
        self.bed.put(role, f"{place}/cert.pem", (own / role / "cert.pem").read_bytes())
        self.bed.put(role, f"{place}/ca.pem", (own / "ca/cert.pem").read_bytes())
        key, owner = (own / role / "key.pem").read_bytes(), f"root:tunneler-{role}"
        self.bed.put(role, f"{place}/key.pem", key, mode=0o640, owner=owner)

    def configure(self, role: Role, more: Settings | None = None) -> None:
        """Write a role's configuration; ``more`` adds to what it has, for this time."""
        place = f"/etc/tunneler/tls/{role}"
        tls = {f"{name}_file": f"{place}/{name}.pem" for name in ("cert", "key", "ca")}
        settings = merged(merged({"tls": tls, "log": {"level": "info"}}, self.settings[role]), more or {})
        self.bed.put(role, f"/etc/tunneler/{role}.yaml", yaml.safe_dump(settings, sort_keys=False))

    def wait_for_path(self, deadline: float = PATH_DEADLINE) -> None:
        """Wait until the client reaches the target.

        Raises:
            BedError: not in time; says how the units are.
        """
        try:
            wait_until(
                lambda: fetch(self.bed, timeout=2.0) == PAGE, deadline * self.bed.time_scale, "the path works"
            )
        except TimeoutError as error:
            raise BedError(f"{error}\n{self.look()}") from None

    def look(self, lines: int = 15) -> str:
        """How the units and their sockets are, and the last lines of the journals, for an error message."""
        commands = (
            "systemctl --no-pager --full --lines=0 status 'tunneler*'",
            "ss --tcp --all --numeric --processes",
            f"journalctl --no-pager --lines={lines} --output=short-precise",
        )
        parts = []
        for role in UNITS:
            said = [self.bed.host(role).run(command).stdout for command in commands]
            parts.append("\n".join((f"== {role}", *said)))
        return "\n".join(parts)


def serve_page(bed: Bed) -> None:
    """Let the target be a web server, which has nothing to do with the product.

    ``?rate=2m`` behind a path makes it send 2 MB in the first second, and 2 MB in each that follows: never
    more, while curl's --limit-rate lets twice as much pass on a busy machine.

    Raises:
        BedError: it does not start.
    """
    bed.put("target", "/var/www/html/index.html", PAGE)
    bed.put("target", "/etc/nginx/conf.d/rate.conf", "limit_rate $arg_rate;\n")
    run(bed, "target", "systemctl --quiet enable --now nginx")


def run(bed: Bed, name: str, script: str) -> str:
    """Run a shell script on a host; its standard output.

    Raises:
        BedError: its exit status is not zero.
    """
    done = bed.host(name).run(script)
    if done.rc != 0:
        raise BedError(f"{name}: status {done.rc} of: {script}\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def fetch(bed: Bed, url: str = f"http://{TARGET}/", timeout: float = 5.0) -> str:
    """What a program of an ordinary user on the client gets from a URL; empty if nothing.

    ``timeout`` is in seconds of a quick machine.
    """
    patience = timeout * bed.time_scale
    curl = f"runuser -u nobody -- curl --silent --show-error --max-time {patience:g} {url}"
    return str(bed.host("client").run(curl).stdout)
