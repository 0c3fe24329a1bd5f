"""A role's life: its rules, its stop by request and by force, and the end of idle connections."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from testbed import Host, Lab
from testbed.suite import TARGET, Member, Suite
from tests.namespaces.applications import (
    Download,
    Pair,
    attempt,
    connect,
    listen,
    receive_exactly,
    wait_for_path,
)

ROLES = ("client", "server", "proxy")
ALL_RULES = "nft list ruleset; iptables-legacy-save; ip6tables-legacy-save"
DECOY_PORT = 7777


@pytest.fixture(scope="module")
def suite(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    quick = {"timeouts": {"backoff_cap": 0.5}}
    with Suite(lab, tmp_path_factory.mktemp("suite")) as suite:
        suite.add_three_roles(proxy=quick, client=quick)
        suite.start()
        yield suite


@pytest.fixture(params=ROLES)
def member(request: pytest.FixtureRequest, working: Suite) -> Member:
    """Each role in its turn; restored after the test."""
    return working[request.param]


# ---------------------------------------------------------------------------- rules


def who_answers(lab: Lab) -> str:
    """Who gets a connection to TARGET: the target (through the tunnel), or a decoy in the open."""
    return attempt(lab.host("client"), DECOY_PORT).result


@pytest.fixture(scope="module")
def decoys(lab: Lab) -> Iterator[None]:
    """The server's host has the captured address, too: what is not captured ends there."""
    server, target = lab.host("server"), lab.host("target")
    server.run("ip", "address", "add", f"{TARGET}/32", "dev", "lo")
    serve = "exec nc -n -k -l {} 7777 -e /bin/true"
    say = "import socketserver as s, sys\nclass H(s.BaseRequestHandler):\n def handle(self):\n  "
    say += "self.request.sendall(sys.argv[1].encode())\ns.TCPServer(('', 7777), H).serve_forever()"
    del serve
    processes = [
        host.spawn("python3", "-c", say, name, log=lab_log(name))
        for host, name in ((server, "decoy"), (target, "target"))
    ]
    yield
    for process in processes:
        process.stop()
    server.run("ip", "address", "del", f"{TARGET}/32", "dev", "lo")
