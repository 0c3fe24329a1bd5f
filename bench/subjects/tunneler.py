"""tunneler itself: capture by netfilter, mutual TLS on both hops, address translation at the proxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.subjects.base import SITE, Roles, program
from testbed import Lab

PROGRAMS = Path(__file__).resolve().parents[2] / ".venv" / "bin"
PORT = 8081
CAPTURED = "100.64.0.0/10"
TARGET = "100.64.1.5"
"""What the short form of routes makes of 192.168.1.5."""


LIMITS = {
    # Above the defaults, for the case that holds 10,000; a limit costs nothing until it is reached.
    "TUNNELER_LIMITS_MAX_CONNECTIONS": "20000",
    "TUNNELER_LIMITS_MAX_CONNECTIONS_PER_LINK": "20000",
}


class Tunneler:
    """tunneler with its default transport, or another.

    Args:
        directory: for keys and logs.
        flags: more flags, by role.
        environment: more variables, for every role. One that is not given here is the caller's own, so
            ``TUNNELER_TRANSPORT=native python -m bench.run`` measures another default.
    """

    descriptors_per_connection = 1

    def __init__(
        self,
        directory: Path,
        *,
        flags: Mapping[str, Sequence[str]] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._directory = directory
        self._flags = flags or {}
        self._environment = {**LIMITS, **(environment or {})}
        self._certs = directory / "certs"
        self._roles = Roles()

    def start(self, lab: Lab) -> None:
        server = lab.host("server")
        near, far = server.address_on("access"), server.address_on("uplink")
        names = ("--server-name", near, "--server-name", far)
        server.run(program("tunneler-gencerts", PROGRAMS), "--dir", self._certs, *names)
        self._spawn(lab, "server", "--listen", f":{PORT}")
        self._spawn(
            lab,
            "proxy",
            *("--server", f"{far}:{PORT}", "--proxy-id", "proxy-1", "--managed-cidr", SITE),
        )
        self._spawn(
            lab,
            "client",
            *("--server", f"{near}:{PORT}", "--cidr", CAPTURED, "--listen-port", "9999"),
        )

    def _spawn(self, lab: Lab, role: str, *flags: str) -> None:
        own = self._certs / role
        tls: tuple[str | Path, ...] = (
            *("--tls-cert", own / "cert.pem", "--tls-key", own / "key.pem"),
            *("--tls-ca", self._certs / "ca" / "cert.pem"),
        )
        command = (program(f"tunneler-{role}", PROGRAMS), *flags, *tls, *self._flags.get(role, ()))
        log = self._directory / f"{role}.log"
        self._roles.add(role, lab.host(role).spawn(*command, log=log, env=self._environment))

    def stop(self) -> None:
        self._roles.stop()

    def processes(self) -> Mapping[str, Sequence[int]]:
        self._roles.check()
        return self._roles.pids()

    @property
    def target_address(self) -> str:
        return TARGET
