# services.tunneler.{server,proxy,client}: the units of packaging/systemd, for NixOS.
{ ... }:
{
  imports = [
    ./server.nix
    ./proxy.nix
    ./client.nix
  ];
}
