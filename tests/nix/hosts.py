"""Configurations of hosts, as expressions of Nix."""

from __future__ import annotations

from tunneler.addresses import Role

MINIMAL = {
    Role.SERVER: "{ services.tunneler.server.enable = true; }",
    Role.PROXY: """{
        services.tunneler.proxy.enable = true;
        services.tunneler.proxy.settings = {
          server_addr = "relay.example.org:8081";
          managed_cidr = "192.168.1.0/24";
        };
    }""",
    Role.CLIENT: """{
        services.tunneler.client.enable = true;
        services.tunneler.client.settings.server_addr = "relay.example.org:8081";
    }""",
}
"""The least that a role can do with."""

FULL = {
    Role.SERVER: """{
        services.tunneler.server = {
          enable = true;
          openFirewall = true;
          loadCredentials = true;
          instances = [ 8082 8083 ];
          settings = {
            listen_addr = "203.0.113.7:443";
            tls.key_file = "/run/secrets/server.pem";
            tls.min_version = "1.3";
            log.level = "debug";
            limits.max_connections = 5000;
            timeouts.drain = "10s";
          };
        };
    }""",
    Role.PROXY: """{
        services.tunneler.proxy = {
          enable = true;
          openFirewall = true;
          loadCredentials = true;
          adminStream = "192.168.1.1:9998";
          settings = {
            server_addr = [ "relay.example.org:8081" "[2001:db8::7]:8081" ];
            proxy_id = "site-1";
            managed_cidr = [ "192.168.1.0/24" ];
            routes = [ { virtual = "fd64:1::/64"; real = "fd00:192:168:1::/64"; } ];
            log.level = "warning";
          };
        };
    }""",
    Role.CLIENT: """{
        services.tunneler.client = {
          enable = true;
          openFirewall = true;
          loadCredentials = true;
          settings = {
            server_addr = [ "relay.example.org:8081" "relay.example.org:8082" ];
            listen_port = 15001;
            target_cidr = [ "100.64.0.0/16" "fd64:1::/64" ];
            exclude = "100.64.0.53/32";
            capture = { gateway = true; backend = "nftables"; when_down = "open"; };
          };
        };
    }""",
}
"""With what people set besides, by options and freely."""
