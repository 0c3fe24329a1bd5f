# The proxy: dials targets on this network for distant clients.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.tunneler.proxy;
  common = import ./common.nix {
    inherit lib pkgs cfg;
    role = "proxy";
  };
in
{
  options.services.tunneler.proxy = common.options // {
    adminStream = lib.mkOption {
      type = lib.types.strMatching "(.*:)?[0-9]+";
      default = "127.0.0.1:9998";
      example = "192.168.1.1:9998";
      description = ''
        Where health and status are told, as in `ListenStream=` of systemd.socket(5). Whoever can connect
        is told about connections.
      '';
    };

    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = "Open the port of `adminStream`. A proxy only dials out: it needs no other.";
    };

    settings = common.mkSettings (
      common.settings
      // {
        server_addr = lib.mkOption {
          type = lib.types.either lib.types.str (lib.types.listOf lib.types.str);
          example = "relay.example.org:8081";
          description = "Servers to link to, HOST:PORT; one or a list.";
        };
        managed_cidr = lib.mkOption {
          type = lib.types.either lib.types.str (lib.types.listOf lib.types.str);
          default = [ ];
          example = "192.168.1.0/24";
          description = "Networks served under their own addresses and, if IPv4, under `virtual_base`.";
        };
        routes = lib.mkOption {
          type = lib.types.listOf (lib.types.attrsOf lib.types.str);
          default = [ ];
          example = [
            {
              virtual = "100.64.1.0/24";
              real = "192.168.1.0/24";
            }
          ];
          description = "Explicit routes: a virtual prefix, and the real prefix of the same length behind it.";
        };
      }
    );
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      common.config
      {
        assertions = [
          {
            assertion = cfg.settings.managed_cidr != [ ] || cfg.settings.routes != [ ];
            message = "services.tunneler.proxy.settings: a proxy without a route serves nothing; set managed_cidr or routes.";
          }
          {
            assertion = (cfg.settings.admin.listen or "") == "";
            message = "services.tunneler.proxy.settings.admin.listen has no effect, as systemd opens that port: set adminStream.";
          }
          {
            assertion = cfg.openFirewall -> !lib.hasPrefix "127." cfg.adminStream;
            message = "services.tunneler.proxy.openFirewall has nothing to open: adminStream is a loopback address.";
          }
        ];

        networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [
          (lib.toInt (lib.last (lib.splitString ":" cfg.adminStream)))
        ];

        systemd.sockets.tunneler-proxy = lib.recursiveUpdate common.socket {
          description = "Tunneler proxy: health and status";
          listenStreams = [ cfg.adminStream ];
          socketConfig.FileDescriptorName = "tunneler-admin";
        };
        systemd.services.tunneler-proxy = lib.recursiveUpdate common.service {
          description = "Tunneler proxy: dials targets on this network for distant clients";
          # Wanted, not required: it works without anybody who looks at its health.
          wants = [ "tunneler-proxy.socket" ];
          after = [
            "tunneler-proxy.socket"
            "network.target"
            "nss-lookup.target"
          ];
          wantedBy = [ "tunneler.target" ];
          serviceConfig = {
            ExecStart = "${cfg.package}/bin/tunneler-proxy --config /etc/tunneler/proxy.yaml";
            # Ready means that a server has its routes, however long that takes; STATUS= says what it waits for.
            TimeoutStartSec = "infinity";
          };
        };
      }
    ]
  );
}
