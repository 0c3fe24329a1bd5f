"""Decisions before any table is opened; the rest is in tests/namespaces/test_capture.py."""

from __future__ import annotations

from typing import Self

import pytest

from tunneler.addresses import parse_network
from tunneler.capture import iptables
from tunneler.capture.iptables import IptablesBackend, wanted_rules
from tunneler.capture.rules import CapturePlan, IPVersion
from tunneler.capture.xtables import Entry
from tunneler.errors import CaptureError

IPV4 = CapturePlan((parse_network("100.64.0.0/10"),), 9999)
BOTH = CapturePlan((*IPV4.networks, parse_network("2001:db8::/32")), 9999)


class EmptyTable:
    """A nat table without rules; the kernel lacks those in ``missing``."""

    missing: tuple[IPVersion, ...] = ()

    def __init__(self, version: IPVersion) -> None:
        if version in self.missing:
            raise CaptureError(f"no IPv{version} nat table")
        self.version = version

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def has_chain(self, chain: str) -> bool:
        return False

    def entries(self, chain: str) -> list[Entry]:
        return []


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> IptablesBackend:
    """In a process that may not see which tables exist, on a kernel without one of them."""
    monkeypatch.setattr(iptables, "load", lambda: None)
    monkeypatch.setattr(iptables, "table_exists", lambda version: None)
    monkeypatch.setattr(iptables, "NatTable", EmptyTable)
    return IptablesBackend()


def test_a_kernel_without_ipv6_nat_matters_to_ipv6_plans_only(
    backend: IptablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmptyTable, "missing", (6,))
    assert backend.check(IPV4)[0] == "IPv4 nat table: chain TUNNELER is missing"
    assert not backend.installed()
    with pytest.raises(CaptureError, match="no IPv6 nat table"):
        backend.check(BOTH)


def test_what_may_not_be_looked_at_is_not_taken_for_absent(
    backend: IptablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmptyTable, "missing", (4, 6))
    with pytest.raises(CaptureError, match="no IPv4 nat table"):
        backend.installed()


def test_exclusions_come_first() -> None:
    targets = [rule.target for rule in wanted_rules(BOTH, 6)["TUNNELER"]]
    assert targets == ["RETURN", "REDIRECT"]


def test_a_family_without_networks_has_no_rules() -> None:
    assert wanted_rules(IPV4, 6) == {}
