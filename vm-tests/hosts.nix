# The hosts of the tests: the lab's topology (topology.json is made from testbed/topology.py), and the roles on it.
{
  lib,
  pkgs,
  module,
}:
let
  topology = builtins.fromJSON (builtins.readFile ./topology.json);
  tunneler = pkgs.callPackage ../nix/package.nix { };

  numbered = lib.imap1 (number: net: lib.nameValuePair net number) topology.nets;
  vlans = builtins.listToAttrs numbered;
  isIPv6 = address: builtins.match ".*:.*" address != null;
  addressesOf =
    name: wanted:
    map (address: lib.head (lib.splitString "/" address)) (
      builtins.concatMap (
        { net, addresses }: if net == wanted then addresses else [ ]
      ) topology.hosts.${name}.attachments
    );
  serverOn = net: "${lib.head (addressesOf "server" net)}:${toString topology.port}";

  # "ADDRESS/LENGTH" as NixOS wants it.
  interfaceAddress =
    text:
    let
      parts = lib.splitString "/" text;
    in
    {
      address = lib.head parts;
      prefixLength = lib.toInt (lib.last parts);
    };

  network =
    name:
    let
      host = topology.hosts.${name};
      interface =
        number: { addresses, ... }:
        lib.nameValuePair "eth${toString number}" {
          ipv4.addresses = lib.mkForce (map interfaceAddress (lib.filter (a: !isIPv6 a) addresses));
          ipv6.addresses = lib.mkForce (map interfaceAddress (lib.filter isIPv6 addresses));
        };
      gateways = lib.filter (gateway: !isIPv6 gateway) host.gateways;
    in
    {
      virtualisation.vlans = map ({ net, ... }: vlans.${net}) host.attachments;
      networking.interfaces = builtins.listToAttrs (lib.imap1 interface host.attachments);
      # A host needs a route for the destinations that it captures.
      networking.defaultGateway = lib.mkIf (gateways != [ ]) {
        address = lib.head gateways;
        interface = "eth1";
      };
    };

  # A throwaway authority. Its keys are in the store, where everybody can read them: for tests alone.
  certificates = pkgs.runCommand "tunneler-test-certificates" { } ''
    ${tunneler}/bin/tunneler-gencerts --dir $out ${
      lib.concatMapStringsSep " " (address: "--server-name ${address}") (
        builtins.concatMap ({ net, ... }: addressesOf "server" net) topology.hosts.server.attachments
      )
    }
  '';
  keys = role: {
    environment.etc = {
      "tunneler/tls/${role}/cert.pem".source = "${certificates}/${role}/cert.pem";
      "tunneler/tls/${role}/ca.pem".source = "${certificates}/ca/cert.pem";
      "tunneler/tls/${role}/key.pem" = {
        source = "${certificates}/${role}/key.pem";
        mode = "0640";
        group = "tunneler-${role}";
      };
    };
  };

  node = name: parts: { imports = [ module (network name) ] ++ parts; };
  proxy =
    name: net: settings:
    node name [
      (keys "proxy")
      {
        services.tunneler.proxy = {
          enable = true;
          package = tunneler;
          settings = settings // {
            server_addr = serverOn net;
            proxy_id = name;
          };
        };
      }
    ];
  target =
    name:
    node name [
      {
        services.nginx.enable = true;
        services.nginx.virtualHosts.target = {
          default = true;
          root = "/var/www";
        };
        systemd.tmpfiles.rules = [
          "d /var/www 0755 root root"
          "f /var/www/index.html 0644 root root - ${name}"
        ];
        networking.firewall.allowedTCPPorts = [ 80 ];
      }
    ];
in
{
  server = node "server" [
    (keys "server")
    {
      services.tunneler.server = {
        enable = true;
        package = tunneler;
        openFirewall = true;
        settings.listen_addr = ":${toString topology.port}";
      };
    }
  ];
  client = node "client" [
    (keys "client")
    {
      environment.systemPackages = [
        pkgs.curl
        pkgs.iptables
        pkgs.nftables
      ];
      services.tunneler.client = {
        enable = true;
        package = tunneler;
        settings = {
          server_addr = serverOn "access";
          target_cidr = topology.captured;
        };
      };
    }
  ];
  proxy = proxy "proxy" "uplink" { managed_cidr = topology.site; };
  target = target "target";
  # Its prefix overlaps with anybody's: only the virtual one is announced, and translated.
  proxy2 = proxy "proxy2" "uplink2" {
    routes = [
      {
        virtual = "100.64.10.0/24";
        real = "10.0.10.0/24";
      }
    ];
  };
  target2 = target "target2";
}
