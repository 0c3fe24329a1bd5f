# Tests of the whole on virtual machines: name -> derivation, for the checks of the flake.
{ pkgs, module }:
let
  inherit (pkgs) lib;
  hosts = import ./hosts.nix { inherit lib pkgs module; };

  oneSite = { inherit (hosts) client server proxy target; };
  mkTest =
    name: nodes:
    pkgs.testers.runNixOSTest {
      name = "tunneler-${name}";
      inherit nodes;
      testScript = builtins.readFile ./common.py + "\n" + builtins.readFile (./. + "/${name}.py");
    };
in
{
  path = mkTest "path" oneSite;
  restart = mkTest "restart" oneSite;
  crash = mkTest "crash" oneSite;
  sites = mkTest "sites" hosts;
}
