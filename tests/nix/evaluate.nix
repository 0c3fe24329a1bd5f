# A host with the modules of this repository and one configuration; what of it the tests look at.
{
  configuration,
}:
let
  lib = import ./library.nix;
  host = lib.evalModules {
    modules = [
      ./nixos.nix
      ../../nixos-module
      configuration
    ];
    specialArgs.pkgs = import ./pkgs.nix;
  };
  inherit (host) config;

  # Every option below a set of them, those that a submodule declares too.
  optionsOf =
    prefix: options:
    builtins.concatLists (
      lib.mapAttrsToList (
        name: option:
        if option._type or null == "option" then
          [ { name = prefix + name; inherit option; } ]
          ++ optionsOf "${prefix}${name}." (option.type.getSubOptions or (_: { }) [ ])
        else
          optionsOf "${prefix}${name}." option
      ) (removeAttrs options [ "_module" "_freeformOptions" ])
    );
in
{
  failed = map ({ message, ... }: message) (
    builtins.filter ({ assertion, ... }: !assertion) config.assertions
  );
  inherit (config.systemd) services sockets targets;
  tmpfiles = lib.unique config.systemd.tmpfiles.rules;
  users = builtins.attrNames config.users.users;
  ports = config.networking.firewall.allowedTCPPorts;
  files = builtins.mapAttrs (_: file: file.source.content or null) config.environment.etc;
  inherit (config.networking) interfaces;
  inherit (config.virtualisation) vlans;
  options = builtins.listToAttrs (
    map ({ name, option }: {
      inherit name;
      value = {
        documented = option.description or "" != "";
        example = option ? example || option ? defaultText;
      };
    }) (optionsOf "" host.options.services.tunneler)
  );
}
