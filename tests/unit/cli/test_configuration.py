"""``check-config`` and ``schema``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.unit.cli.conftest import Programs
from tunneler.addresses import Role
from tunneler.config.keys import dotted, leaves
from tunneler.config.model import MODEL_OF_ROLE

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


@pytest.mark.parametrize("role", list(Role))
def test_every_key_with_its_source(program: Programs, role: Role) -> None:
    file = EXAMPLES / f"{role}.yaml"
    status, output, _ = program(
        "tunneler", "check-config", role, "--config", str(file), "--log-level", "debug"
    )
    assert status == 0
    assert "  level: debug  # --log-level\n" in output
    assert f"  ca_file: {EXAMPLES}/certs/ca/cert.pem  # {file}\n" in output
    assert "  dial: 10.0  # default\n" in output
    shown = yaml.safe_load(output)
    for path in leaves(MODEL_OF_ROLE[role]):
        value = shown
        for name in path:
            assert name in value, dotted(path)
            value = value[name]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("suffix", ["yaml", "json", "env"])
def test_the_output_is_a_configuration_with_the_same_meaning(
    program: Programs, tmp_path: Path, role: Role, suffix: str
) -> None:
    first = program("tunneler", "check-config", role, "--config", str(EXAMPLES / f"{role}.{suffix}"))
    copy = tmp_path / "copy.yaml"
    copy.write_text(first.output)
    second = program("tunneler", "check-config", role, "--config", str(copy))
    assert second.status == 0
    assert yaml.safe_load(second.output) == yaml.safe_load(first.output)


def test_the_routes_of_a_proxy(program: Programs) -> None:
    _, output, _ = program("tunneler", "check-config", "proxy", "--config", str(EXAMPLES / "proxy.yaml"))
    assert output.endswith("# announces 192.168.1.0/24\n# announces 100.64.1.0/24 -> 192.168.1.0/24\n")


def test_what_is_wrong(program: Programs) -> None:
    status, output, errors = program("tunneler", "check-config", "server", "--listen", "x", "--tls-insecure")
    assert (status, output) == (2, "")
    assert errors == (
        "tunneler-check-config-server: --listen: listen_addr: "
        "expected HOST:PORT with a port from 1 to 65535, not 'x'\n"
    )


def test_certificates_that_cannot_be_used_are_a_warning(program: Programs, tmp_path: Path) -> None:
    certificates = tmp_path / "certs"
    assert program("tunneler-gencerts", "--dir", str(certificates)).status == 0
    arguments = ["tunneler", "check-config", "server", "--tls-ca", f"{certificates}/ca/cert.pem"]

    def files(holder: str) -> list[str]:
        return [
            "--tls-cert",
            f"{certificates}/{holder}/cert.pem",
            "--tls-key",
            f"{certificates}/{holder}/key.pem",
        ]

    sound = program(*arguments, *files("server"))
    assert (sound.status, sound.errors) == (0, "")
    for holder in ("client", "nobody"):
        unfit = program(*arguments, *files(holder))
        assert unfit.status == 0
        assert unfit.errors.startswith(
            f"tunneler-check-config-server: warning: {certificates}/{holder}/cert.pem: "
        )


@pytest.mark.parametrize("role", list(Role))
def test_schema(program: Programs, role: Role) -> None:
    status, output, _ = program("tunneler", "schema", role)
    assert status == 0
    assert json.loads(output)["title"] == f"tunneler {role}"
