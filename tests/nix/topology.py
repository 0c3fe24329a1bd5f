"""The lab's hosts and settings for the NixOS tests: ``python -m tests.nix.topology`` writes them anew."""

from __future__ import annotations

import json
from typing import Any

from testbed import standard_topology
from testbed.suite import CAPTURED, PORT, SITE, TARGET
from testbed.topology import HostSpec
from tests.architecture.sources import ROOT

FILE = ROOT / "vm-tests" / "topology.json"


def described() -> str:
    """The content of the file, from what the lab has."""
    topology = standard_topology(second_site=True)
    content = {
        "captured": CAPTURED,
        "site": SITE,
        "target": TARGET,
        "port": PORT,
        "nets": list(topology.nets()),
        "hosts": {host.name: _host(host) for host in topology.hosts},
    }
    return json.dumps(content, indent=2) + "\n"


def _host(host: HostSpec) -> dict[str, Any]:
    return {
        "attachments": [
            {"net": end.net, "addresses": [str(address) for address in end.addresses]}
            for end in host.attachments
        ],
        "gateways": [str(route.via) for route in host.routes],
    }


if __name__ == "__main__":
    FILE.write_text(described(), encoding="utf-8")
