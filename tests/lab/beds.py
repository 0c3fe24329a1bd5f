"""All the beds, by the names that a user gives them."""

from __future__ import annotations

from testbed.topology import Topology
from tests.lab.kept import KeptBed
from tests.lab.nspawn import NspawnBed
from tests.lab.qemu import QemuBed

BEDS: dict[str, type[KeptBed]] = {"nspawn": NspawnBed, "qemu": QemuBed}


def found(topology: Topology, name: str) -> KeptBed | None:
    """The lab of that name, whatever its hosts are and whichever process made it; None if there is none."""
    for bed in BEDS.values():
        if lab := bed.found(topology, name):
            return lab
    return None
