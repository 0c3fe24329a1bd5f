# The options of NixOS that the modules here set, by their real names: a misspelt one does not exist.
{ lib, ... }:
let
  inherit (lib) types;
  option = type: default: lib.mkOption {
    inherit type default;
    description = "An option of NixOS.";
  };
  strings = option (types.listOf types.str) [ ];
  text = option types.str "";
  values = option (types.attrsOf types.anything) { };

  unit = {
    description = text;
    after = strings;
    before = strings;
    conflicts = strings;
    partOf = strings;
    requires = strings;
    wantedBy = strings;
    wants = strings;
    unitConfig = values;
  };
  user = {
    isSystemUser = option types.bool false;
    group = text;
    description = text;
  };
  service = {
    environment = option (types.attrsOf types.str) { };
    reloadTriggers = strings;
    restartTriggers = strings;
    serviceConfig = values;
    stopIfChanged = option types.bool true;
  };
  socket = {
    listenStreams = strings;
    socketConfig = values;
  };
  sets = options: option (types.attrsOf (types.submodule { inherit options; })) { };
in
{
  options = {
    assertions = option (types.listOf types.anything) [ ];
    environment.systemPackages = option (types.listOf types.package) [ ];
    environment.etc = sets {
      source = option types.anything null;
      group = text;
      mode = text;
    };
    networking.firewall.allowedTCPPorts = option (types.listOf types.port) [ ];
    networking.defaultGateway = values;
    networking.defaultGateway6 = values;
    networking.interfaces = values;
    services.nginx = values;
    virtualisation.memorySize = option types.int 1024;
    virtualisation.vlans = option (types.listOf types.int) [ ];
    systemd.services = sets (unit // service);
    systemd.sockets = sets (unit // socket);
    systemd.targets = sets unit;
    systemd.tmpfiles.rules = strings;
    users.users = sets user;
    users.groups = sets { };
  };
}
