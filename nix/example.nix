# A host with all three roles: what `nix flake check` evaluates the module with.
{
  boot.isContainer = true;
  system.stateVersion = "24.11";

  services.tunneler.server = {
    enable = true;
    openFirewall = true;
    instances = [ 8082 ];
  };
  services.tunneler.proxy = {
    enable = true;
    settings = {
      server_addr = "relay.example.org:8081";
      managed_cidr = "192.168.1.0/24";
    };
  };
  services.tunneler.client = {
    enable = true;
    settings = {
      server_addr = [
        "relay.example.org:8081"
        "relay.example.org:8082"
      ];
      target_cidr = [ "100.64.1.0/24" ];
    };
  };
}
