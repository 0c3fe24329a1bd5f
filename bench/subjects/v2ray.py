"""v2ray as a reverse proxy: its *bridge* dials out from the site, its *portal* is the relay.

client: netfilter REDIRECT -> dokodemo-door -> VMess -> server: portal -> (mux over VMess,
dialled by the proxy) -> proxy: bridge -> freedom -> target.

Two subjects. ``v2ray`` carries VMess in TLS on both hops, with the server's certificate
verified; VMess then encrypts nothing itself, so that no byte is encrypted twice.
``v2ray-plain`` has no TLS, and VMess's own AES-128-GCM.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.subjects.base import CACHE, SITE, Roles, program
from testbed import Host, Lab

CAPTURE_PORT = 9999
CLIENT_PORT = 8081
BRIDGE_PORT = 8082
PROGRAMS = CACHE / "debian" / "usr" / "bin"
SERVER_NAME = "relay.internal"
MEETING_POINT = "bridge.internal"
"""A domain that nobody resolves: portal and bridge know each other by it."""

Config = dict[str, Any]


class V2ray:
    descriptors_per_connection = 2

    def __init__(self, directory: Path, *, tls: bool = True) -> None:
        self._directory = directory
        self._tls = tls
        self._server_stream: Config = {}
        self._dialler_stream: Config = {}
        self._roles = Roles()
        self._target = ""
        self._user = {"id": str(uuid.uuid4()), "alterId": 0}  # 0: AEAD headers

    def start(self, lab: Lab) -> None:
        server, client = lab.host("server"), lab.host("client")
        self._target = lab.host("target").address
        if self._tls:
            self._make_certificate(server)
        configurations = {
            "server": self._portal(),
            "proxy": self._bridge(server.address_on("uplink")),
            "client": self._capture(server.address_on("access")),
        }
        command = (program("v2ray", PROGRAMS), "-config")
        for role, configuration in configurations.items():
            file = self._directory / f"v2ray-{role}.json"
            file.write_text(json.dumps(configuration, indent=1), encoding="utf-8")
            log = self._directory / f"v2ray-{role}.log"
            self._roles.add(role, lab.host(role).spawn(*command, file, log=log))
        rule = ("-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", SITE, "-j", "REDIRECT")
        client.run("iptables", *rule, "--to-ports", str(CAPTURE_PORT))

    def stop(self) -> None:
        self._roles.stop()

    def processes(self) -> Mapping[str, Sequence[int]]:
        self._roles.check()
        return self._roles.pids()

    @property
    def target_address(self) -> str:
        return self._target

    def _make_certificate(self, host: Host) -> None:
        """One self-signed certificate, of a form that v2ray reads; both diallers trust it and no other."""
        made = host.run(program("v2ctl", PROGRAMS), "cert", "--ca", f"--domain={SERVER_NAME}")
        certificate = json.loads(made.stdout)
        trusted = {"usage": "verify", "certificate": certificate["certificate"]}
        self._server_stream = {"security": "tls", "tlsSettings": {"certificates": [certificate]}}
        self._dialler_stream = {
            "security": "tls",
            "tlsSettings": {"serverName": SERVER_NAME, "disableSystemRoot": True, "certificates": [trusted]},
        }

    def _portal(self) -> Config:
        return {
            "log": _LOG,
            "reverse": {"portals": [{"tag": "portal", "domain": MEETING_POINT}]},
            "inbounds": [
                self._vmess_inbound("clients", CLIENT_PORT),
                self._vmess_inbound("bridges", BRIDGE_PORT),
            ],
            "outbounds": [{"protocol": "blackhole"}],
            "routing": {"rules": [_rule("portal", inboundTag=["clients", "bridges"])]},
        }

    def _bridge(self, server: str) -> Config:
        return {
            "log": _LOG,
            "reverse": {"bridges": [{"tag": "bridge", "domain": MEETING_POINT}]},
            "outbounds": [{"tag": "site", "protocol": "freedom"}, self._vmess_outbound(server, BRIDGE_PORT)],
            "routing": {
                "rules": [
                    _rule("relay", inboundTag=["bridge"], domain=[f"full:{MEETING_POINT}"]),
                    _rule("site", inboundTag=["bridge"]),
                ]
            },
        }

    def _capture(self, server: str) -> Config:
        door = {"network": "tcp", "followRedirect": True}
        return {
            "log": _LOG,
            "inbounds": [{"port": CAPTURE_PORT, "protocol": "dokodemo-door", "settings": door}],
            "outbounds": [self._vmess_outbound(server, CLIENT_PORT)],
        }

    def _vmess_inbound(self, tag: str, port: int) -> Config:
        return {
            "tag": tag,
            "port": port,
            "protocol": "vmess",
            "settings": {"clients": [self._user]},
            "streamSettings": self._server_stream,
        }

    def _vmess_outbound(self, server: str, port: int) -> Config:
        user = {**self._user, "security": "none" if self._tls else "aes-128-gcm"}
        return {
            "tag": "relay",
            "protocol": "vmess",
            "settings": {"vnext": [{"address": server, "port": port, "users": [user]}]},
            "streamSettings": self._dialler_stream,
        }


_LOG = {"access": "none", "loglevel": "warning"}


def _rule(outbound: str, **match: list[str]) -> Config:
    return {"type": "field", "outboundTag": outbound, **match}
