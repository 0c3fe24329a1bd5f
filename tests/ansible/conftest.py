"""One bare lab for the whole session, and one control host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed import standard_topology
from testbed.processes import execute
from tests.ansible.control import NEW, OLD, Control
from tests.lab import access, program
from tests.lab.nspawn import NspawnBed
from tests.lab.rollout import serve_page

BUNDLE_TIMEOUT = 300.0


@pytest.fixture(scope="session")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """Bare hosts, and bundles of two versions."""
    bundles = tmp_path_factory.mktemp("bundles")
    for version in (OLD, NEW):
        bundle = str(bundles / f"{version}.pex")
        execute((str(program.ROOT / "scripts/bundle"), bundle, version), timeout=BUNDLE_TIMEOUT)
    with NspawnBed(bare=True) as bed:
        bed.up(standard_topology())
        serve_page(bed)
        inventory = access.give(bed, bed.name, tmp_path_factory.mktemp("access"))
        control = Control(bed, inventory, bundles)
        try:
            yield control
        finally:
            control.hang_up()
