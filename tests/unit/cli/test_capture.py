"""``tunneler capture`` with packet filters that only remember what they were told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Programs
from tunneler.capture import select
from tunneler.capture.rules import CapturePlan
from tunneler.errors import CaptureError, ExitStatus

FLAGS = ("--server", "127.0.0.1:8081", "--tls-insecure", "--cidr", "10.0.0.0/8", "--listen-port", "7777")


class RememberingFilter:
    def __init__(self, name: str) -> None:
        self.name = name
        self.plan: CapturePlan | None = None
        self.broken = False
        self.spared = False

    def _work(self) -> None:
        if self.broken:
            raise CaptureError(f"{self.name} is not here")

    def install(self, plan: CapturePlan) -> None:
        self._work()
        self.plan = plan

    def remove(self, *, sparing: bool = False) -> None:
        self._work()
        self.plan = None
        self.spared = sparing

    def check(self, plan: CapturePlan) -> list[str]:
        self._work()
        return [] if self.plan == plan else ["a rule is missing", "another is not wanted"]

    def installed(self) -> bool:
        self._work()
        return self.plan is not None

    def probe(self) -> None:
        self._work()


Filters = dict[str, RememberingFilter]


@pytest.fixture
def filters(monkeypatch: pytest.MonkeyPatch) -> Filters:
    made = {name: RememberingFilter(name) for name in select.BACKENDS}

    def giving(name: str) -> Callable[[], Any]:
        return lambda: made[name]

    for name in made:
        monkeypatch.setitem(select.BACKENDS, name, giving(name))
    monkeypatch.setenv("TUNNELER_CAPTURE_BACKEND", "nftables")
    return made


@pytest.fixture(autouse=True)
def _program_first(program: Programs, filters: Filters) -> None:
    """The one clears the environment that the other sets."""


def test_install_check_remove(program: Programs, filters: Filters) -> None:
    assert program("tunneler", "capture", "install", *FLAGS).output == "nftables: the rules are in force\n"
    plan = filters["nftables"].plan
    assert plan is not None
    assert plan.listen_port == 7777
    assert [str(network) for network in plan.networks] == ["10.0.0.0/8"]
    checked = program("tunneler", "capture", "check", *FLAGS)
    assert (checked.status, checked.output) == (0, "nftables: the rules are as wanted\n")
    assert program("tunneler", "capture", "remove").output == "nftables: the rules are removed\n"
    assert filters["nftables"].plan is None
    assert program("tunneler", "capture", "remove") == (0, "there were no rules\n", "")
    assert program("tunneler", "capture", "remove", "--quiet") == (0, "", "")


def test_every_setting_reaches_the_plan(program: Programs, filters: Filters, tmp_path: Path) -> None:
    file = tmp_path / "client.yaml"
    file.write_text("exclude: 10.1.0.0/16\ncapture: {gateway: true, user: nobody}\nserver_addr: '[::1]:1'\n")
    program("tunneler", "capture", "install", "--config", str(file), "--tls-insecure")
    plan = filters["nftables"].plan
    assert plan is not None
    assert (plan.gateway, plan.user) == (True, "nobody")
    assert "10.1.0.0/16" in map(str, plan.excluded)


def test_differences_are_printed_and_status_1(program: Programs, filters: Filters) -> None:
    status, output, _ = program("tunneler", "capture", "check", *FLAGS)
    assert status == 1
    assert output == "nftables: a rule is missing\nnftables: another is not wanted\n"


def test_an_error_of_the_packet_filter(program: Programs, filters: Filters) -> None:
    filters["nftables"].broken = True
    for command in ("install", "check"):
        status, _, errors = program("tunneler", "capture", command, *FLAGS)
        assert status == 1
        assert errors.splitlines()[-1] == f"tunneler-capture-{command}: nftables is not here"


def test_a_wrong_configuration_is_status_2(program: Programs, filters: Filters) -> None:
    assert program("tunneler", "capture", "check", "--cidr", "x").status == 2


class TestRemove:
    @pytest.mark.parametrize(
        ("flags", "spared"), [((), False), (("--after", "success"), False), (("--after", "signal"), True)]
    )
    def test_what_is_open_lives_on_after_a_crash(
        self, program: Programs, filters: Filters, flags: tuple[str, ...], spared: bool
    ) -> None:
        program("tunneler", "capture", "install", *FLAGS)
        program("tunneler", "capture", "remove", *flags)
        assert filters["nftables"].spared is spared

    def test_rules_that_another_configuration_left(
        self, program: Programs, filters: Filters, tmp_path: Path
    ) -> None:
        program("tunneler", "capture", "install", *FLAGS)
        filters["iptables"].plan = filters["nftables"].plan
        (tmp_path / "client.yaml").write_text("capture: [")
        status, output, errors = program(
            "tunneler", "capture", "remove", "--config", f"{tmp_path}/client.yaml"
        )
        assert status == 0
        assert output == "iptables: the rules are removed\nnftables: the rules are removed\n"
        assert errors.startswith("tunneler-capture-remove: warning: ")

    def test_a_filter_that_the_host_lacks_is_no_error(self, program: Programs, filters: Filters) -> None:
        filters["iptables"].broken = True
        assert program("tunneler", "capture", "remove") == (0, "there were no rules\n", "")

    def test_unless_the_configuration_names_it(
        self, program: Programs, filters: Filters, tmp_path: Path
    ) -> None:
        filters["nftables"].broken = True
        (tmp_path / "client.yaml").write_text("server_addr: 127.0.0.1:1\ntls: {insecure: true}\n")
        status, _, errors = program("tunneler", "capture", "remove", "--config", f"{tmp_path}/client.yaml")
        assert status == 1
        assert errors.endswith("tunneler-capture-remove: nftables is not here\n")

    def test_none_can_be_asked(self, program: Programs, filters: Filters) -> None:
        for filter_ in filters.values():
            filter_.broken = True
        status, _, errors = program("tunneler", "capture", "remove")
        assert status == 1
        assert "tunneler-capture-remove: iptables: iptables is not here\n" in errors
        assert "tunneler-capture-remove: nftables: nftables is not here\n" in errors


def test_the_keeper_of_the_rules_reads_its_configuration_and_sets_up_the_log(
    program: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured: list[tuple[Any, ...]] = []

    def keep_rules(load: Callable[[], Any], clients: Path) -> ExitStatus:
        assert clients == Path("/run/a")
        assert load().listen_port == 7777
        return ExitStatus.FAILURE

    monkeypatch.setattr("tunneler.roles.capture.run", keep_rules)
    monkeypatch.setattr("tunneler.cli.settings.apart", lambda function: function())
    monkeypatch.setattr("tunneler.observability.log.configure", lambda *values: configured.append(values))
    assert program("tunneler", "capture", "run", "--clients", "/run/a", *FLAGS).status == 1
    assert configured == [("capture", "info", "auto", "stdout")]
