"""nebula, an overlay network: the server is lighthouse and relay, client and proxy are nodes.

The client's traffic for the site enters its tun device (``unsafe_routes``), travels as UDP
through the relay, because client and proxy have no way to each other, and is forwarded and
masqueraded by the proxy's kernel. Encryption is end to end (AES-256-GCM), once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.subjects.base import CACHE, SITE, Roles, SubjectError, program
from testbed import Lab

UDP_PORT = 4242
OVERLAY = {"server": "10.99.0.1", "client": "10.99.0.2", "proxy": "10.99.0.3"}
OVERLAY_NETWORK = "10.99.0.0/24"
PROGRAMS = CACHE / "debian" / "usr" / "bin"
_ANY = [{"port": "any", "proto": "any", "host": "any"}]


class Nebula:
    descriptors_per_connection = 1

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._roles = Roles()
        self._target = ""

    def start(self, lab: Lab) -> None:
        if not Path("/dev/net/tun").exists():
            raise SubjectError("/dev/net/tun is missing: modprobe tun")
        server, proxy = lab.host("server"), lab.host("proxy")
        self._target = lab.host("target").address
        self._certificates(lab)
        proxy.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        masquerade = (
            "-t",
            "nat",
            "-A",
            "POSTROUTING",
            "-s",
            OVERLAY_NETWORK,
            "-o",
            "site",
            "-j",
            "MASQUERADE",
        )
        proxy.run("iptables", *masquerade)
        underlay = {"server": "", "client": server.address_on("access"), "proxy": server.address_on("uplink")}
        for role, way_to_server in underlay.items():
            file = self._directory / f"nebula-{role}.yml"  # JSON is YAML
            file.write_text(json.dumps(self._configuration(role, way_to_server)), encoding="utf-8")
            command = (program("nebula", PROGRAMS), "-config", file)
            log = self._directory / f"nebula-{role}.log"
            self._roles.add(role, lab.host(role).spawn(*command, log=log))

    def stop(self) -> None:
        self._roles.stop()

    def processes(self) -> Mapping[str, Sequence[int]]:
        self._roles.check()
        return self._roles.pids()

    @property
    def target_address(self) -> str:
        return self._target

    def _certificates(self, lab: Lab) -> None:
        cert = program("nebula-cert", PROGRAMS)
        ca = ("-ca-crt", self._file("ca", "crt"), "-ca-key", self._file("ca", "key"))
        host = lab.host("server")
        host.run(cert, "ca", "-name", "bench", "-out-crt", ca[1], "-out-key", ca[3])
        for role, address in OVERLAY.items():
            subnets = ("-subnets", SITE) if role == "proxy" else ()
            out = ("-out-crt", self._file(role, "crt"), "-out-key", self._file(role, "key"))
            host.run(cert, "sign", "-name", role, "-ip", f"{address}/24", *subnets, *ca, *out)

    def _configuration(self, role: str, way_to_server: str) -> dict[str, Any]:
        relay = OVERLAY["server"]
        is_relay = role == "server"
        routes = [{"route": SITE, "via": OVERLAY["proxy"]}] if role == "client" else []
        return {
            "pki": {
                "ca": self._file("ca", "crt"),
                "cert": self._file(role, "crt"),
                "key": self._file(role, "key"),
            },
            "static_host_map": {} if is_relay else {relay: [f"{way_to_server}:{UDP_PORT}"]},
            "lighthouse": {"am_lighthouse": is_relay, "hosts": [] if is_relay else [relay], "interval": 5},
            "listen": {"host": "0.0.0.0", "port": UDP_PORT},
            "relay": {
                "am_relay": is_relay,
                "use_relays": not is_relay,
                "relays": [] if is_relay else [relay],
            },
            "tun": {"dev": "nebula", "unsafe_routes": routes},
            "firewall": {"outbound": _ANY, "inbound": _ANY},
            "logging": {"level": "warning"},
        }

    def _file(self, name: str, suffix: str) -> str:
        return str(self._directory / f"nebula-{name}.{suffix}")
