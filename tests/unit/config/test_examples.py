"""Each file in docs/examples is a configuration that its role accepts as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunneler.addresses import Role
from tunneler.config.load import load
from tunneler.config.model import MODEL_OF_ROLE, ClientConfig, ProxyConfig

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
FILES = sorted(path for path in EXAMPLES.rglob("*") if path.is_file() and path.name != "README.md")


def role_of(path: Path) -> Role:
    """``two-proxies/proxy-north.yaml`` is for a proxy."""
    return Role(path.stem.partition("-")[0])


def test_there_is_an_example_of_each_role_in_each_format() -> None:
    names = {str(path.relative_to(EXAMPLES)) for path in FILES}
    assert {f"{role}.{suffix}" for role in Role for suffix in ("yaml", "json", "env")} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_the_role_accepts_it(path: Path) -> None:
    loaded = load(MODEL_OF_ROLE[role_of(path)], [path], {}, {})
    insecure = path.parent.name == "insecure-loopback"
    assert loaded.config.tls.insecure is insecure
    assert len(loaded.warnings) == insecure
    if not insecure:
        assert loaded.config.tls.ca_file == path.parent / "certs/ca/cert.pem"


def test_two_proxies_with_the_same_network_have_virtual_prefixes_of_their_own() -> None:
    north, south = (
        load(ProxyConfig, [EXAMPLES / f"two-proxies/proxy-{name}.yaml"], {}, {}).config
        for name in ("north", "south")
    )
    assert north.all_routes[0].real == south.all_routes[0].real
    assert not {route.virtual for route in north.all_routes} & {route.virtual for route in south.all_routes}
    assert north.group != south.group


def test_the_gateway_example_captures_for_others() -> None:
    config = load(ClientConfig, [EXAMPLES / "gateway/client.yaml"], {}, {}).config
    assert config.capture.gateway
