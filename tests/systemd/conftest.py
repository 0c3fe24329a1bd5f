"""One lab for the whole session: the three roles as services on four booted hosts."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from testbed import standard_topology
from tests.lab.kept import KeptBed
from tests.lab.rollout import PAGE, Rollout
from tests.systemd.services import DOWNLOAD, Site

LINES_OF_A_FAILURE = 300
"""Of each journal: a test that breaks things writes dozens of lines a second."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure how the hosts were at that moment; they are gone when it is read."""
    report = yield
    site = item.funcargs.get("whole") if isinstance(item, pytest.Function) else None
    if report.failed and isinstance(site, Site):
        report.sections.append(("the hosts", site.rollout.look(LINES_OF_A_FAILURE)))
    return report


@pytest.fixture(scope="session")
def whole(make_bed: type[KeptBed], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The services, working. Tests take ``site``."""
    with make_bed() as bed:
        bed.up(standard_topology())
        rollout = Rollout(bed, tmp_path_factory.mktemp("authority") / "certs")
        rollout.everything()
        site = Site(bed, rollout)
        site.run("target", f"head -c {DOWNLOAD} /dev/urandom >/var/www/html/big")
        yield site


@pytest.fixture
def site(whole: Site) -> Site:
    """The services for a test that leaves them as they were, working."""
    if whole.fetch() != PAGE:
        whole.mend()
    return whole


@pytest.fixture
def changed(site: Site) -> Iterator[Site]:
    """The services for a test that changes or breaks them; afterwards all is as before."""
    yield site
    site.mend()
