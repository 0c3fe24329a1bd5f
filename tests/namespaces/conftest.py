"""What the tests of the path share: the four hosts with the three roles, one set for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed import Host, Lab, standard_topology
from testbed.suite import Suite
from testbed.web import Web
from tests.namespaces.applications import Pair, wait_for_path

PAGE = "what the target serves\n"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The four hosts; a module that needs more has a fixture of this name of its own."""
    with Lab(standard_topology()) as lab:
        yield lab


@pytest.fixture(scope="module")
def suite(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The three roles, working."""
    with Suite(lab, tmp_path_factory.mktemp("suite")) as suite:
        suite.add_three_roles()
        suite.start()
        yield suite


@pytest.fixture(scope="module")
def web(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Web:
    """nginx on the target."""
    web = Web(lab.host("target"), tmp_path_factory.mktemp("target") / "web")
    (web.files / "index.html").write_text(PAGE)
    return web


@pytest.fixture
def client(lab: Lab) -> Host:
    return lab.host("client")


@pytest.fixture
def target(lab: Lab) -> Host:
    return lab.host("target")


@pytest.fixture
def pair(suite: Suite, client: Host, target: Host) -> Iterator[Pair]:
    """An open connection through the tunnel."""
    with Pair.open(client, target) as pair:
        yield pair


@pytest.fixture
def working(suite: Suite, client: Host, target: Host) -> Iterator[Suite]:
    """The three roles for a test that stops them or changes their settings; afterwards all is as before."""
    before = {name: member.settings for name, member in suite.members.items()}
    yield suite
    for name, member in list(suite.members.items()):
        if name not in before:
            if member.running:
                member.process.stop()
            del suite.members[name]
        elif member.running and member.settings != before[name]:
            member.process.stop()
        if name in before:
            member.settings = before[name]
    suite.start()
    wait_for_path(client, target, 30)
