"""The outputs of flake.nix, with a stand-in for nixpkgs; and that every file of Nix parses."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

import tunneler
from tests.architecture.sources import ROOT, tracked
from tests.nix.evaluation import evaluate, nix

FLAKE = """
let
  lib = import ./tests/nix/library.nix;
  fake = import ./tests/nix/pkgs.nix;
  nixpkgs = {
    lib = lib // { nixosSystem = system: system; };
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (name: fake // {
      inherit lib;
      stdenv.hostPlatform.system = name;
    });
  };
  self = (import ./flake.nix).outputs { inherit self nixpkgs; };
in
"""
PACKAGE = """
let
  lib = import ./tests/nix/library.nix // {
    licenses.mit = "MIT";
    platforms.linux = [ ];
    getLib = package: package;
    fileset = { toSource = source: source; unions = paths: paths; };
  };
  package = import ./nix/package.nix {
    inherit lib;
    nftables = "nftables";
    python3Packages = lib.genAttrs [ NAMES ] (name: name) // {
      buildPythonApplication = attributes: attributes;
      callPackage = _: _: "python-iptables";
      setuptools = "setuptools";
    };
  };
in
{ inherit (package) version dependencies; }
"""
"""The package's attributes, with names for packages."""
SYSTEMS = ["aarch64-linux", "x86_64-linux"]


def flake(expression: str) -> Any:
    """The value of an expression about ``self``, this flake."""
    return evaluate(FLAKE + expression)


def test_every_file_parses() -> None:
    files = [str(path) for path in tracked() if path.suffix == ".nix"]
    assert len(files) > 10
    nix("--parse", *files)


def test_its_outputs() -> None:
    assert flake("builtins.attrNames self") == [
        *("apps", "checks", "devShells", "formatter", "nixosConfigurations", "nixosModules"),
        *("overlays", "packages"),
    ]


@pytest.mark.parametrize(
    ("output", "names"),
    [
        ("packages", ["default", "tunneler"]),
        ("apps", ["client", "default", "gencerts", "proxy", "server"]),
        ("checks", ["crash", "path", "python", "restart", "sites"]),
        ("devShells", ["default"]),
    ],
)
def test_each_system_has_the_same(output: str, names: list[str]) -> None:
    seen = flake(f"builtins.mapAttrs (_: builtins.attrNames) self.{output}")
    assert seen == dict.fromkeys(SYSTEMS, names)


def test_an_app_is_a_program_of_the_package() -> None:
    programs = flake("builtins.mapAttrs (_: app: app.program) self.apps.x86_64-linux")
    assert programs["proxy"].endswith("-tunneler/bin/tunneler-proxy")


def test_the_example_has_all_roles_and_nothing_fails() -> None:
    example = "(import ./tests/nix/evaluate.nix { configuration = removeAttrs"
    seen = flake(f'{example} (import ./nix/example.nix) [ "boot" "system" ]; }})')
    assert seen["failed"] == []
    assert {"tunneler-server", "tunneler-proxy", "tunneler-client"} <= seen["services"].keys()
    assert flake("builtins.length self.nixosConfigurations.example.modules") == 2


def test_the_overlay_adds_the_package() -> None:
    assert flake("builtins.attrNames (self.overlays.default (import ./tests/nix/pkgs.nix) { })") == [
        "tunneler"
    ]


def test_the_package_has_what_the_project_depends_on() -> None:
    """By the names that nixpkgs has for them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = project["dependencies"]
    package = evaluate(PACKAGE.replace("NAMES", " ".join(f'"{name}"' for name in names)))
    assert package["version"] == tunneler.__version__
    assert sorted(package["dependencies"]) == sorted(names)
