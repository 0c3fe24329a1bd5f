"""No program: the kernels of the server and the proxy forward packets. The upper bound of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.subjects.base import SITE
from testbed import Lab


class Direct:
    descriptors_per_connection = 1

    def __init__(self, directory: Path) -> None:
        self._target = ""

    def start(self, lab: Lab) -> None:
        server, proxy, target = lab.host("server"), lab.host("proxy"), lab.host("target")
        for router in (server, proxy):
            router.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        server.run("ip", "route", "add", SITE, "via", proxy.address)
        proxy.run("ip", "route", "add", "default", "via", server.address_on("uplink"))
        target.run("ip", "route", "add", "default", "via", proxy.address_on("site"))
        self._target = target.address

    def stop(self) -> None:
        """Nothing runs; the routes go with the lab."""

    def processes(self) -> Mapping[str, Sequence[int]]:
        return {}

    @property
    def target_address(self) -> str:
        return self._target
