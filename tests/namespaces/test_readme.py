"""What the READMEs tell people to type, typed on four hosts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import Host, Lab, Process
from testbed.processes import execute, wait_until
from testbed.suite import PROGRAMS
from testbed.web import Web
from tests.namespaces.conftest import PAGE
from tests.readme import ROOT, example

RELAY = "relay.example.org"
PATH_DEADLINE = 20.0
DEMO_TIMEOUT = 120.0


class Typist:
    """Types into a shell on a host whose hosts(5) knows the relay, with the programs at hand."""

    def __init__(self, host: Host, relay: str, directory: Path) -> None:
        self._host = host
        self._directory = directory
        self._hosts = directory / f"hosts-{host.name}"
        self._hosts.write_text(f"127.0.0.1 localhost\n{relay} {RELAY}\n")
        self._environment = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"}

    def types(self, text: str) -> str:
        """Wait for its end; what it prints."""
        return self._host.run(*self._shell(text), env=self._environment).stdout

    def starts(self, text: str, log: str) -> Process:
        return self._host.spawn(
            *self._shell(f"exec {text}"), log=self._directory / log, env=self._environment
        )

    def _shell(self, text: str) -> tuple[str, ...]:
        script = f'mount --bind {self._hosts} /etc/hosts && cd {self._directory} && eval "$1"'
        return ("unshare", "--mount", "bash", "-euc", script, "bash", text)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("readme")
    for path in (ROOT / "examples/grpc-js-proxy").iterdir():
        (made / path.name).symlink_to(path)
    return made


@pytest.fixture(scope="module")
def certificates(lab: Lab, directory: Path) -> Path:
    server = Typist(lab.host("server"), "127.0.0.1", directory)
    server.types(example("README.md", "tunneler-gencerts"))
    return directory / "certs"


@pytest.fixture
def server_and_client(
    lab: Lab, directory: Path, certificates: Path, web: Web, client: Host
) -> Iterator[tuple[Typist, str]]:
    """A client's shell, with both programs running behind it; and what is to be typed there next."""
    server = Typist(lab.host("server"), "127.0.0.1", directory)
    person = Typist(client, lab.host("server").address_on("access"), directory)
    start, curl = example("README.md", "tunneler-client").split("\n\n")
    listening = server.starts(example("README.md", "tunneler-server --listen"), "server.log")
    capturing = person.starts(start, "client.log")
    try:
        yield person, curl
    finally:
        capturing.stop()
        listening.stop()


@pytest.mark.parametrize(
    "proxy",
    [
        example("README.md", "tunneler-proxy"),
        example("examples/grpc-js-proxy/README.md", "node proxy.js"),
    ],
    ids=["ours", "grpc-js"],
)
def test_the_path(lab: Lab, directory: Path, server_and_client: tuple[Typist, str], proxy: str) -> None:
    person, curl = server_and_client
    site = Typist(lab.host("proxy"), lab.host("server").address_on("uplink"), directory)
    dialling = site.starts(proxy, "proxy.log")
    try:
        # What it says while the programs start is no matter; curl's own patience is not in the README.
        wait_until(lambda: person.types(f"({curl}) || true") == PAGE, PATH_DEADLINE, "the path works")
    finally:
        dialling.stop()


def test_certificates_for_two_names(tmp_path: Path) -> None:
    command = example("certs/README.md", "tunneler-gencerts")
    execute(
        ("env", f"--chdir={tmp_path}", f"PATH={PROGRAMS}:{os.environ['PATH']}", "bash", "-c", command),
        timeout=30,
    )
    said = execute(
        (
            "openssl",
            "x509",
            "-noout",
            "-ext",
            "subjectAltName",
            "-in",
            str(tmp_path / "certs/server/cert.pem"),
        ),
        timeout=10,
    ).stdout
    assert f"DNS:{RELAY}" in said
    assert "IP Address:192.0.2.1" in said


@pytest.mark.timeout(DEMO_TIMEOUT)
def test_the_demo() -> None:
    """The other command of that example is the one that runs this test."""
    demo, test = example("README.md", "scripts/demo").splitlines()
    assert test.startswith("scripts/test ")
    said = execute(("bash", "-c", f"cd {ROOT} && {demo}"), timeout=DEMO_TIMEOUT).stdout
    assert "100.64.1.5" in said
