"""The NixOS tests as far as that is possible without NixOS: hosts evaluated, testScripts checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.sources import ROOT
from tests.nix.evaluation import evaluate
from tests.nix.topology import FILE, described

TESTS = """
let
  lib = import ./tests/nix/library.nix;
  fake = import ./tests/nix/pkgs.nix;
  pkgs = fake // {
    inherit lib;
    curl = fake.coreutils;
    iptables = fake.coreutils;
    nftables = fake.coreutils;
    runCommand = name: _: _: "/nix/store/${name}";
    testers.runNixOSTest = test: test;
  };
  tests = import ./vm-tests { inherit pkgs; module = { }; };
in
"""
NAMES = ["crash", "path", "restart", "sites"]


def vm_tests(expression: str) -> Any:
    """The value of an expression about ``tests``."""
    return evaluate(TESTS + expression)


def test_the_topology_is_the_labs() -> None:
    assert FILE.read_text(encoding="utf-8") == described(), "run python -m tests.nix.topology"


def test_every_script_is_a_test() -> None:
    scripts = {path.stem for path in (ROOT / "vm-tests").glob("*.py")} - {"common"}
    assert sorted(scripts) == vm_tests("builtins.attrNames tests") == NAMES


def test_hosts_are_right() -> None:
    look = "(node: import ./tests/nix/evaluate.nix { configuration = node; })"
    hosts = vm_tests(
        f"builtins.mapAttrs (_: node: let host = {look} node; in"
        " { inherit (host) failed vlans interfaces files ports; }) tests.sites.nodes"
    )
    assert sorted(hosts) == ["client", "proxy", "proxy2", "server", "target", "target2"]
    assert [name for name, host in hosts.items() if host["failed"]] == []
    # Two ends of a net are on the same one; and the settings name addresses that the server has.
    assert hosts["client"]["vlans"][0] == hosts["server"]["vlans"][0]
    assert hosts["proxy"]["vlans"][1] == hosts["target"]["vlans"][0]
    assert hosts["client"]["files"]["tunneler/client.yaml"]["server_addr"] == "10.77.1.1:8081"
    assert hosts["server"]["ports"] == [8081]


@pytest.mark.timeout(180)
def test_scripts_are_correct_python(tmp_path: Path) -> None:
    for name in NAMES:
        test = vm_tests(
            f"{{ inherit (tests.{name}) testScript; nodes = builtins.attrNames tests.{name}.nodes; }}"
        )
        machines = "".join(f"{node} = machine()\n" for node in test["nodes"])
        preamble = f"from tests.nix.driver import machine, start_all, subtest\n\n{machines}\n"
        (tmp_path / f"script_{name}.py").write_text(preamble + test["testScript"], encoding="utf-8")
    scripts = sorted(map(str, tmp_path.glob("*.py")))
    for command in (
        ("ruff", "check", "--isolated", "--select=F"),
        ("mypy", "--strict", "--follow-imports=silent"),
    ):
        done = subprocess.run(
            (str(Path(sys.executable).with_name(command[0])), *command[1:], *scripts),
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
