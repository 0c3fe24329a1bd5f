"""What every test run shares: hypothesis profiles, no silent skips, and nothing left behind.

A run that ends with a process or a network namespace of its own still there has failed,
whatever its tests say.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.lab.beds import BEDS
from tests.lab.kept import KeptBed
from tests.leftovers import Leftovers

settings.register_profile("dev", max_examples=100, deadline=None)
# On a machine of unknown speed: the same examples every time, and slowness is no failure.
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("deep", parent=settings.get_profile("ci"), max_examples=20_000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--forbid-skips", action="store_true", help="a skipped test has failed: its tool is missing"
    )
    parser.addoption("--bed", choices=BEDS, default="nspawn", help="what services and playbooks run on")


@pytest.fixture(scope="session")
def make_bed(pytestconfig: pytest.Config) -> type[KeptBed]:
    """What the hosts are made of, where that is left to whoever runs the tests."""
    return BEDS[pytestconfig.getoption("--bed")]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests the time that the hosts take on which they run."""
    scale = BEDS[config.getoption("--bed")].time_scale
    for item in items:
        if scale > 1 and (marker := item.get_closest_marker("timeout")):
            item.add_marker(pytest.mark.timeout(marker.args[0] * scale), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--forbid-skips"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail the run, at its end, for what outlives its tests; end the processes among it."""
    leftovers = Leftovers.watch()
    yield
    found = leftovers.find(patience=2.0)
    leftovers.end_processes()
    if found:
        pytest.fail("left behind by this run:\n  " + "\n  ".join(found), pytrace=False)
