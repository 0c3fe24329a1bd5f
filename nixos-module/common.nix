# What the three roles share: their options, and how their services run.
{
  lib,
  pkgs,
  role,
  cfg,
}:
let
  format = pkgs.formats.yaml { };
  hardening = import ./hardening.nix;
  user = "tunneler-${role}";
  tls = "/etc/tunneler/tls/${role}";

  # The store can be read by everybody on the host, and by whoever gets a copy of it.
  pathOutsideStore = lib.types.addCheck lib.types.str (
    path: lib.hasPrefix "/" path && !lib.hasPrefix "${builtins.storeDir}/" path
  ) // {
    description = "absolute path, as a string, outside of the store";
  };

  # tunneler.config.changes.LIVE: what a reload puts in force. A change of anything else restarts.
  live = [
    "log"
    "limits"
    "timeouts"
    "tcp_keepalive"
    "target_cidr"
    "exclude"
    "group"
    "managed_cidr"
    "routes"
    "virtual_base"
  ];

  configuration = format.generate "tunneler-${role}.yaml" cfg.settings;
  credentials = {
    "cert.pem" = cfg.settings.tls.cert_file;
    "key.pem" = cfg.settings.tls.key_file;
    "ca.pem" = cfg.settings.tls.ca_file;
  };

  # How systemd looks after a service, whatever it does.
  supervised = {
    # A limit of starts would count restarts by hand as well, and then fail the socket too.
    unitConfig.StartLimitIntervalSec = 0;
    stopIfChanged = false;
    serviceConfig = hardening // {
      Type = "notify";
      NotifyAccess = "main";
      # systemd before 253 looks for RELOADING=1 only when ExecReload= has ended: give it time to arrive.
      ExecReload = [
        "${pkgs.coreutils}/bin/kill -HUP $MAINPID"
        "${pkgs.coreutils}/bin/sleep 0.1"
      ];
      Restart = "on-failure";
      # The configuration or a certificate is at fault, and says so: starting again cannot help.
      RestartPreventExitStatus = "2 3 4";
      # A loop that has stood still for so long has lost its peers anyway (timeouts.silence, 15 s).
      WatchdogSec = "15s";
      # Counted anew with each EXTEND_TIMEOUT_USEC while connections finish (timeouts.drain).
      TimeoutStopSec = "15s";
      # SIGTERM asks the main process to drain, and nobody else.
      KillMode = "mixed";
    };
  };
in
{
  inherit
    configuration
    format
    hardening
    live
    supervised
    user
    ;

  options = {
    enable = lib.mkEnableOption "the tunneler ${role}";

    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ../nix/package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./nix/package.nix { }";
      description = "The package that has the programs.";
    };

    loadCredentials = lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = ''
        Let systemd read the certificate, the key and the authority as root and hand copies to the ${role}
        (`LoadCredential=`), so that only root needs access to the files. Copies are made at the start:
        a renewed certificate then needs a restart.
      '';
    };
  };

  # Options below `settings` that every role has.
  settings = {
    tls = {
      cert_file = lib.mkOption {
        type = lib.types.str;
        default = "${tls}/cert.pem";
        example = "/var/lib/acme/relay.example.org/cert.pem";
        description = "Certificate of this ${role}, and what leads from it to the authority; PEM.";
      };
      key_file = lib.mkOption {
        type = pathOutsideStore;
        default = "${tls}/key.pem";
        example = "/run/secrets/tunneler-${role}.pem";
        description = ''
          Its private key; PEM. A string, not a Nix path: a path would be copied into the store, where
          everybody can read it, and is refused.
        '';
      };
      ca_file = lib.mkOption {
        type = lib.types.str;
        default = "${tls}/ca.pem";
        example = "/etc/ssl/tunneler-ca.pem";
        description = "Authorities whose certificates are accepted from peers; PEM.";
      };
    };
  };

  # `settings` of a role: its own options, those that every role has, and any other key of the program.
  mkSettings =
    options:
    lib.mkOption {
      type = lib.types.submodule {
        freeformType = format.type;
        inherit options;
      };
      default = { };
      example = {
        log.level = "debug";
      };
      description = ''
        Configuration of the ${role}, written to `/etc/tunneler/${role}.yaml`. Every key of
        docs/configuration.md is possible; those that most people set are options of their own.
      '';
    };

  # The file, the user and the directory of the keys.
  config = {
    environment.systemPackages = [ cfg.package ];
    environment.etc."tunneler/${role}.yaml".source = configuration;
    users.users.${user} = {
      isSystemUser = true;
      group = user;
      description = "Tunneler ${role}";
    };
    users.groups.${user} = { };
    systemd.tmpfiles.rules = [
      "d /etc/tunneler/tls 0755 root root"
      "d ${tls} 0750 root ${user}"
    ];
    systemd.targets.tunneler = {
      description = "Tunneler";
      wantedBy = [ "multi-user.target" ];
      # multi-user.target would wait for this one, and this one for a client or a proxy that is "activating"
      # until a server answers. Without default dependencies nothing waits (systemd.target(5)).
      unitConfig.DefaultDependencies = false;
      conflicts = [ "shutdown.target" ];
      before = [ "shutdown.target" ];
    };
  };

  # A service that carries connections.
  service = lib.recursiveUpdate supervised {
    partOf = [ "tunneler.target" ];
    # What a reload puts in force reloads, anything else restarts; never stop and start, which would take
    # the socket along and refuse connections meanwhile.
    reloadTriggers = [ "${configuration}" ];
    restartTriggers = [ (builtins.toJSON (removeAttrs cfg.settings live)) ];
    environment = lib.optionalAttrs cfg.loadCredentials {
      TUNNELER_TLS_CERT_FILE = "%d/cert.pem";
      TUNNELER_TLS_KEY_FILE = "%d/key.pem";
      TUNNELER_TLS_CA_FILE = "%d/ca.pem";
    };
    serviceConfig = {
      User = user;
      LoadCredential = lib.optionals cfg.loadCredentials (
        lib.mapAttrsToList (name: path: "${name}:${path}") credentials
      );
      RestartSec = "1s";
      # One for each connection (limits.max_connections, 10000), and some.
      LimitNOFILE = 65536;
      TasksMax = 64;
      # A core holds keys, and what was being carried.
      LimitCORE = 0;
      # The process has no privilege, and no way to one.
      CapabilityBoundingSet = "";
      PrivateUsers = true;
      # Relaxed: AF_INET and AF_INET6 carry the traffic; AF_UNIX is how it speaks to systemd and the journal.
      RestrictAddressFamilies = "AF_INET AF_INET6 AF_UNIX";
      # Relaxed: no ProcSubset=pid, which hides net.core.somaxconn and /proc/stat; and no IPAddressDeny=any,
      # as peers may be anywhere.
    };
  };

  # A socket that starts a service.
  socket = {
    partOf = [ "tunneler.target" ];
    wantedBy = [ "tunneler.target" ];
    unitConfig.StartLimitIntervalSec = 0;
    # Give up on a service that fails at once for whatever waits in the queue, instead of burning a processor.
    socketConfig = {
      TriggerLimitIntervalSec = "10s";
      TriggerLimitBurst = 6;
    };
  };
}
