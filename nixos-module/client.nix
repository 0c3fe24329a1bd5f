# The client: carries captured connections; and, apart from it, the keeper of its packet filter rules.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.tunneler.client;
  common = import ./common.nix {
    inherit lib pkgs cfg;
    role = "client";
  };
  port = cfg.settings.listen_port;
  gateway = cfg.settings.capture.gateway;
in
{
  options.services.tunneler.client = common.options // {
    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Open the port to which connections of other hosts are redirected, for a gateway
        (`settings.capture.gateway`).
      '';
    };

    settings = common.mkSettings (
      common.settings
      // {
        server_addr = lib.mkOption {
          type = lib.types.either lib.types.str (lib.types.listOf lib.types.str);
          example = [
            "relay.example.org:8081"
            "relay.example.org:8082"
          ];
          description = "Servers to link to, HOST:PORT; one or a list.";
        };
        listen_port = lib.mkOption {
          type = lib.types.port;
          default = 9999;
          example = 15001;
          description = "Port to which captured connections are redirected.";
        };
        target_cidr = lib.mkOption {
          type = lib.types.either lib.types.str (lib.types.listOf lib.types.str);
          default = [ "100.64.0.0/10" ];
          example = [ "100.64.1.0/24" ];
          description = "Networks to capture; one or a list.";
        };
        exclude = lib.mkOption {
          type = lib.types.either lib.types.str (lib.types.listOf lib.types.str);
          default = [ ];
          example = [ "100.64.0.53/32" ];
          description = "Networks never captured, even if inside `target_cidr`; one or a list.";
        };
        capture.gateway = lib.mkOption {
          type = lib.types.bool;
          default = false;
          example = true;
          description = "Capture what other hosts send through this one, too.";
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
            assertion = cfg.openFirewall -> gateway;
            message = "services.tunneler.client.openFirewall is for a gateway: set settings.capture.gateway, or leave it out.";
          }
        ];

        networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ port ];

        users.users.tunneler-capture = {
          isSystemUser = true;
          group = "tunneler-capture";
          description = "Tunneler capture";
        };
        users.groups.tunneler-capture = { };
        # The lock that all who change legacy rules share (iptables(8)); tunneler-capture is not root.
        systemd.tmpfiles.rules = [ "f /run/xtables.lock 0640 root tunneler-capture" ];

        systemd.sockets.tunneler-client = lib.recursiveUpdate common.socket {
          description = "Tunneler client: where captured connections arrive";
          # The rules that bring them here. Wanted: where somebody else installs rules, disable tunneler-capture.
          wants = [ "tunneler-capture.service" ];
          # Connections of other hosts arrive at the address of an interface, those of this host at loopback.
          listenStreams =
            if gateway then
              [ (toString port) ]
            else
              [
                "127.0.0.1:${toString port}"
                "[::1]:${toString port}"
              ];
          socketConfig = {
            FileDescriptorName = "tunneler-capture";
            # IPv6 may be switched off on the loopback interface; IPv4 is to be captured all the same.
            FreeBind = true;
            # Connections wait here while the client starts or restarts.
            Backlog = 4096;
          }
          // lib.optionalAttrs gateway { BindIPv6Only = "both"; };
        };

        systemd.services.tunneler-client = lib.recursiveUpdate common.service {
          description = "Tunneler client: carries captured connections";
          requires = [ "tunneler-client.socket" ];
          # Also for the way down: connections finish before the rules go that translate them.
          after = [
            "tunneler-client.socket"
            "tunneler-capture.service"
            "network.target"
            "nss-lookup.target"
          ];
          # Both read the same configuration: whoever reloads the client means the rules, too.
          unitConfig.PropagatesReloadTo = "tunneler-capture.service";
          # tunneler-capture.service has the privilege, and this process has none.
          environment.TUNNELER_CAPTURE_ENABLED = "false";
          serviceConfig = {
            ExecStart = "${cfg.package}/bin/tunneler-client --config /etc/tunneler/client.yaml";
            # Here tunneler-capture sees whether this client lives and has a link (capture.when_down).
            RuntimeDirectory = "tunneler-client";
            RuntimeDirectoryPreserve = true;
            # Ready means that it has a link, however long that takes; STATUS= says what it waits for.
            TimeoutStartSec = "infinity";
          };
        };

        systemd.services.tunneler-capture = lib.recursiveUpdate common.supervised {
          description = "Tunneler capture: the packet filter rules of the client";
          # Rules without anybody who listens would only refuse connections.
          requires = [ "tunneler-client.socket" ];
          # After whatever loads the host's own rules, which may flush ours.
          after = [
            "tunneler-client.socket"
            "nftables.service"
            "firewall.service"
            "network.target"
          ];
          partOf = [ "tunneler-client.socket" ];
          restartTriggers = [ "${common.configuration}" ];
          # Nothing that the client itself sends is captured.
          environment.TUNNELER_CAPTURE_USER = common.user;
          serviceConfig = {
            ExecStart = "${cfg.package}/bin/tunneler capture run --config /etc/tunneler/client.yaml";
            # However it ended, SIGKILL included: nothing is captured any more.
            ExecStopPost = "${cfg.package}/bin/tunneler capture remove --quiet --after \${SERVICE_RESULT}";
            SyslogIdentifier = "tunneler-capture";
            User = "tunneler-capture";
            # Root's group may see which legacy tables exist (/proc/net/ip_tables_names).
            SupplementaryGroups = "root";
            # As long as the host is up, its rules are to be right.
            RestartSec = "500ms";
            TimeoutStartSec = "30s";
            TasksMax = 16;
            # It is small, and the way of the host's traffic depends on it.
            OOMScoreAdjust = -500;
            # Relaxed: what netfilter asks of whoever changes rules, and CAP_NET_RAW for the legacy tables.
            # No PrivateUsers=, in which they would be worth nothing outside.
            CapabilityBoundingSet = "CAP_NET_ADMIN CAP_NET_RAW";
            AmbientCapabilities = "CAP_NET_ADMIN CAP_NET_RAW";
            # Relaxed: what looks up the servers' names gives its capabilities away first.
            SystemCallFilter = common.hardening.SystemCallFilter ++ [ "capset" ];
            # Relaxed: AF_NETLINK is nftables, AF_INET and AF_INET6 are the legacy tables and look-ups.
            RestrictAddressFamilies = "AF_NETLINK AF_INET AF_INET6 AF_UNIX";
            ProcSubset = "pid";
          };
        };
      }
    ]
  );
}
