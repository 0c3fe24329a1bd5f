"""One bare lab for the whole session, and one control host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ansible.control import NEW, OLD, Control, bare_hosts, make_bundle
from tests.lab.kept import KeptBed


@pytest.fixture(scope="session")
def control(make_bed: type[KeptBed], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """Bare hosts, and bundles of two versions."""
    bundles = tmp_path_factory.mktemp("bundles")
    for version in (OLD, NEW):
        make_bundle(bundles, version)
    with bare_hosts(make_bed(bare=True), tmp_path_factory.mktemp("access"), bundles) as control:
        yield control
