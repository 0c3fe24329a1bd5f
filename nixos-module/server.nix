# The server: relays connections between clients and proxies.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.tunneler.server;
  common = import ./common.nix {
    inherit lib pkgs cfg;
    role = "server";
  };

  # "HOST:PORT" -> [ "HOST" "PORT" ]; an IPv6 address has brackets.
  listen = builtins.match "(.*):([0-9]+)" cfg.settings.listen_addr;
  port = lib.toInt (lib.last listen);
  everywhere = builtins.elem (lib.head listen) [
    ""
    "*"
  ];
  # ListenStream= of systemd.socket(5) for a port at that address.
  streamOf = port: if everywhere then port else "${lib.head listen}:${port}";

  mkSocket =
    description: stream:
    lib.recursiveUpdate common.socket {
      inherit description;
      listenStreams = [ stream ];
      socketConfig = {
        BindIPv6Only = "both";
        FileDescriptorName = "tunneler-link";
        ReusePort = true;
        # After a restart all clients and proxies come back at once.
        Backlog = 4096;
      };
    };

  mkService =
    name: description: arguments:
    lib.recursiveUpdate common.service {
      inherit description;
      # Its port is opened by systemd, always: it needs no privilege for it, and a restart refuses nobody.
      requires = [ "${name}.socket" ];
      after = [
        "${name}.socket"
        "network.target"
      ];
      serviceConfig = {
        ExecStart = "${cfg.package}/bin/tunneler-server --config /etc/tunneler/server.yaml${arguments}";
        TimeoutStartSec = "30s";
        # Its memory is bounded (limits.memory_budget), and its end is felt by everybody at once.
        OOMScoreAdjust = -200;
      };
    };
in
{
  options.services.tunneler.server = common.options // {
    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = "Open the ports at which links arrive, those of `instances` too.";
    };

    instances = lib.mkOption {
      type = lib.types.listOf lib.types.port;
      default = [ ];
      example = [ 8082 ];
      description = ''
        Ports of more servers on this host, `tunneler-server@PORT`, at the address of `settings.listen_addr`:
        one process uses one processor core. Clients and proxies list them all in `server_addr`.
      '';
    };

    settings = common.mkSettings (
      common.settings
      // {
        listen_addr = lib.mkOption {
          type = lib.types.strMatching "(.*):([0-9]+)";
          default = ":8081";
          example = "203.0.113.7:443";
          description = ''
            Where links arrive, HOST:PORT; :PORT means every address of this machine. systemd listens
            there, so that ports below 1024 need no privilege.
          '';
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
            assertion = !builtins.elem port cfg.instances;
            message = "services.tunneler.server.instances has port ${toString port}, which is that of settings.listen_addr.";
          }
          {
            assertion = cfg.instances == [ ] || (cfg.settings.admin.listen or "") == "";
            message = "services.tunneler.server.instances and settings.admin.listen do not go together: no two servers have the one admin port.";
          }
          {
            assertion = cfg.settings.transport or "native" == "native";
            message = "services.tunneler.server.settings.transport: sockets of systemd need more units with grpcio, which this module does not have; use native. Peers need not use the same.";
          }
        ];

        networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall ([ port ] ++ cfg.instances);

        systemd.sockets.tunneler-server = mkSocket "Tunneler server: where links arrive" (
          streamOf (toString port)
        );
        systemd.services.tunneler-server =
          mkService "tunneler-server" "Tunneler server: relays connections between clients and proxies" "";
      }
      (lib.mkIf (cfg.instances != [ ]) {
        systemd.sockets."tunneler-server@" =
          removeAttrs (mkSocket "Tunneler server %i: where links arrive" (streamOf "%i")) [ "wantedBy" ];
        systemd.services."tunneler-server@" =
          mkService "tunneler-server@%i" "Tunneler server %i: relays connections between clients and proxies"
            " --listen :%i";
        systemd.targets.tunneler.wants = map (port: "tunneler-server@${toString port}.socket") cfg.instances;
      })
    ]
  );
}
