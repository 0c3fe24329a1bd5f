"""The NixOS module: what it makes of a configuration, and what it refuses."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.sources import ROOT
from tests.nix.evaluation import EvaluationError, Host, evaluate, merged
from tests.nix.hosts import FULL, MINIMAL
from tests.nix.rendering import parse, render
from tests.unit.packaging.test_units import EXPOSURE, OTHER_EXPOSURE, UNITS, run
from tunneler.addresses import Role
from tunneler.config.changes import LIVE
from tunneler.config.load import load
from tunneler.config.model import MODEL_OF_ROLE

ROLES = (Role.SERVER, Role.PROXY, Role.CLIENT)
HOSTS = {"minimal": MINIMAL, "full": FULL}
STORE = "/nix/store/00000000000000000000000000000000-"
KINDS = {"service": "Service", "socket": "Socket", "target": "Target"}


def look(*configurations: str) -> Any:
    seen = merged(*configurations).look()
    assert seen["failed"] == []
    return seen


def units(seen: Any) -> dict[str, str]:
    """File name to text of all units of a host."""
    return {
        f"{name}.{kind}": render(section, unit)
        for kind, section in KINDS.items()
        for name, unit in seen[f"{kind}s"].items()
    }


@pytest.fixture(scope="module")
def all_roles() -> dict[str, str]:
    """The units of a host that has the three roles and one more server, with nothing set besides."""
    instance = "{ services.tunneler.server.instances = [ 8082 ]; }"
    return units(look(*MINIMAL.values(), instance))


def test_its_units_are_those_that_are_packaged(all_roles: dict[str, str]) -> None:
    packaged = {path.name for path in UNITS.iterdir() if path.suffix.lstrip(".") in KINDS}
    assert all_roles.keys() == packaged


UNIT_NAMES = sorted(path.name for path in UNITS.iterdir() if path.suffix.lstrip(".") in KINDS)


@pytest.mark.parametrize("name", UNIT_NAMES)
def test_a_unit_does_what_the_packaged_one_does(name: str, all_roles: dict[str, str]) -> None:
    theirs, ours = parse((UNITS / name).read_text(encoding="utf-8")), parse(all_roles[name])
    theirs.pop("Install.Also", None)  # what NixOS has enabled it starts
    if "@" in name:
        theirs.pop("Install.WantedBy", None)  # tunneler.target wants the instances that were asked for
    if name == "tunneler.target":
        assert ours.pop("Unit.Wants") == ["tunneler-server@8082.socket"]
    if name == "tunneler-capture.service":  # what loads a host's own rules has other names on NixOS
        theirs["Unit.After"] = [*sorted({"firewall.service"} | set(theirs["Unit.After"])
                                - {"firewalld.service", "iptables.service", "netfilter-persistent.service",
                                   "ufw.service"})]  # fmt: skip
    # Paths in /bin are in /usr/bin, too; the order of settings does not matter, that of their values does.
    assert ours == theirs


@pytest.mark.parametrize("size", HOSTS)
@pytest.mark.parametrize("role", ROLES)
def test_systemd_has_nothing_to_say_about_its_units(role: Role, size: str, tmp_path: Path) -> None:
    files = []
    for name, text in units(look(HOSTS[size][role])).items():
        path = tmp_path / name.replace("@.", "@8082.")
        path.write_text(re.sub(r"(?m)^(Exec\w+=)(\S+)", r"\1/bin/true", text), encoding="utf-8")
        files.append(path)
    flags = ("--man=no", "--generators=no", "--recursive-errors=no")
    assert run("systemd-analyze", "verify", *flags, *files) == ""


@pytest.mark.parametrize("role", ROLES)
def test_exposure(role: Role, tmp_path: Path) -> None:
    for name, text in units(look(FULL[role])).items():
        if name.endswith(".service"):
            unit = tmp_path / f"exposure-{name.replace('@.', '@x.')}"
            unit.write_text(text, encoding="utf-8")
            most = EXPOSURE.get(name, OTHER_EXPOSURE)
            flags = ("--offline=true", "--no-pager", f"--threshold={most * 10:.0f}")
            assert "Overall exposure level" in run("systemd-analyze", "security", *flags, unit)


@pytest.mark.parametrize("size", HOSTS)
@pytest.mark.parametrize("role", ROLES)
def test_the_program_takes_its_settings(role: Role, size: str, tmp_path: Path) -> None:
    settings = look(HOSTS[size][role])["files"][f"tunneler/{role}.yaml"]
    file = tmp_path / f"{role}.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    loaded = load(MODEL_OF_ROLE[role], [file], {}, {})
    assert loaded.warnings == ()
    assert str(loaded.config.tls.ca_file) == f"/etc/tunneler/tls/{role}/ca.pem"


@pytest.mark.parametrize("size", HOSTS)
@pytest.mark.parametrize("role", ROLES)
def test_the_program_takes_its_arguments(role: Role, size: str) -> None:
    for name, service in look(HOSTS[size][role])["services"].items():
        commands = [service["serviceConfig"].get(key) for key in ("ExecStart", "ExecStopPost")]
        for command in filter(None, commands):
            words = shlex.split(command.replace("%i", "8082").replace("${SERVICE_RESULT}", "signal"))
            script = Path(sys.executable).with_name(Path(words[0]).name)
            assert words[0].startswith(f"{STORE}tunneler/bin/"), name
            assert "Usage:" in run(script, *words[1:], "--help")


def test_ports_are_opened_where_that_is_asked_for() -> None:
    assert [look(MINIMAL[role])["ports"] for role in ROLES] == [[], [], []]
    assert [look(FULL[role])["ports"] for role in ROLES] == [[443, 8082, 8083], [9998], [15001]]


def test_sockets_listen_where_the_settings_say() -> None:
    assert look(FULL[Role.SERVER])["sockets"]["tunneler-server"]["listenStreams"] == ["203.0.113.7:443"]
    gateway = look(FULL[Role.CLIENT])["sockets"]["tunneler-client"]
    assert gateway["listenStreams"] == ["15001"]
    assert gateway["socketConfig"]["BindIPv6Only"] == "both"


def test_credentials_are_what_the_service_reads() -> None:
    service = look(FULL[Role.SERVER])["services"]["tunneler-server"]
    assert "key.pem:/run/secrets/server.pem" in service["serviceConfig"]["LoadCredential"]
    assert service["environment"]["TUNNELER_TLS_KEY_FILE"] == "%d/key.pem"


def test_a_change_restarts_only_what_must() -> None:
    def triggers(settings: str) -> tuple[Any, Any]:
        more = f"{{ services.tunneler.proxy.settings = {settings}; }}"
        service = look(MINIMAL[Role.PROXY], more)["services"]["tunneler-proxy"]
        assert service["stopIfChanged"] is False
        return service["restartTriggers"], service["reloadTriggers"]

    assert triggers('{ log.level = "debug"; }')[0] == triggers("{ }")[0]
    assert triggers('{ proxy_id = "other"; }')[0] != triggers("{ }")[0]


def test_what_reloads_is_what_the_program_reloads() -> None:
    live = evaluate(
        "(import ./nixos-module/common.nix { lib = import ./tests/nix/library.nix;"
        ' pkgs = import ./tests/nix/pkgs.nix; role = "server"; cfg = { }; }).live'
    )
    assert set(live) <= LIVE
    # Of tls and capture only a part is live: any change there restarts.
    assert LIVE - set(live) == {key for key in LIVE if key.startswith(("tls.", "capture."))}


def test_more_servers_listen_at_the_address_of_the_first() -> None:
    sockets = units(look(FULL[Role.SERVER]))
    streams = {
        name: parse(text)["Socket.ListenStream"] for name, text in sockets.items() if ".socket" in name
    }
    assert streams == {
        "tunneler-server.socket": ["203.0.113.7:443"],
        "tunneler-server@.socket": ["203.0.113.7:%i"],
    }


@pytest.mark.parametrize(
    ("role", "change", "words"),
    [
        (
            Role.PROXY,
            "{ services.tunneler.proxy.settings.managed_cidr = lib.mkForce [ ]; }",
            "serves nothing",
        ),
        (Role.PROXY, "{ services.tunneler.proxy.openFirewall = true; }", "nothing to open"),
        (
            Role.PROXY,
            '{ services.tunneler.proxy.settings.admin.listen = "127.0.0.1:9100"; }',
            "set adminStream",
        ),
        (Role.CLIENT, "{ services.tunneler.client.openFirewall = true; }", "is for a gateway"),
        (Role.SERVER, "{ services.tunneler.server.instances = [ 8081 ]; }", "has port 8081"),
        (
            Role.SERVER,
            '{ services.tunneler.server = { instances = [ 8082 ]; settings.admin.listen = "[::1]:9100"; }; }',
            "no two servers have the one admin port",
        ),
        (Role.SERVER, '{ services.tunneler.server.settings.transport = "grpcio"; }', "use native"),
    ],
)
def test_what_cannot_work_fails_an_assertion(role: Role, change: str, words: str) -> None:
    (message,) = merged(MINIMAL[role], f"{{ lib, ... }}: {change}").look()["failed"]
    assert words in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("services.tunneler.server.enabel = true;", "`services.tunneler.server.enabel' does not exist"),
        ("services.tunneler.server.instances = [ 70000 ];", r"server\.instances.* is not of type"),
        ('services.tunneler.server.settings.listen_addr = "8081";', "is not of type"),
        (
            'services.tunneler.server.settings.tls.key_file = "/nix/store/0-key.pem";',
            "outside of the store",
        ),
        ("services.tunneler.server.settings.tls.key_file = ./key.pem;", "outside of the store"),
        ("systemd.services.tunneler-server.servicConfig = { };", "servicConfig' does not exist"),
    ],
)
def test_what_is_wrong_is_refused(change: str, words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        merged(MINIMAL[Role.SERVER], f"{{ {change} }}").look()


def test_servers_have_to_be_named() -> None:
    with pytest.raises(EvaluationError, match=r"server_addr' (is used but not|was accessed but)"):
        Host("{ services.tunneler.client.enable = true; }").look()


def test_an_option_without_a_description_is_refused() -> None:
    bare = '{ lib, ... }: { options.bare = lib.mkOption { type = lib.types.str; default = ""; }; }'
    seen = merged(MINIMAL[Role.SERVER], bare)
    assert seen.look()["failed"] == []  # nothing has looked at it
    with pytest.raises(EvaluationError, match="`bare' has no description"):
        evaluate(f"((import ./tests/nix/lib.nix).evalModules {{ modules = [ ({bare}) ]; }}).config")


def test_every_option_is_documented() -> None:
    options = look(MINIMAL[Role.SERVER])["options"]
    assert {"server.enable", "client.settings.capture.gateway", "proxy.openFirewall"} <= options.keys()
    assert [name for name, option in options.items() if not all(option.values())] == []


EXAMPLES = re.findall(r"(?ms)^```nix\n(.*?)^```$", (ROOT / "docs" / "nix.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_works(example: str) -> None:
    assert look(example)["services"]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2
