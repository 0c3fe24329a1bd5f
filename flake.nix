{
  description = "Unmodified programs on one network reach TCP services on another, behind NAT";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forEachSystem =
        outputsOf:
        lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: outputsOf nixpkgs.legacyPackages.${system});
    in
    {
      packages = forEachSystem (pkgs: rec {
        tunneler = pkgs.callPackage ./nix/package.nix { };
        default = tunneler;
      });

      overlays.default = final: _previous: {
        tunneler = final.callPackage ./nix/package.nix { };
      };

      nixosModules.default = import ./nixos-module;

      nixosConfigurations.example = lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          self.nixosModules.default
          ./nix/example.nix
        ];
      };

      apps = forEachSystem (
        pkgs:
        let
          app = program: {
            type = "app";
            program = "${self.packages.${pkgs.stdenv.hostPlatform.system}.default}/bin/${program}";
          };
        in
        {
          default = app "tunneler";
          client = app "tunneler-client";
          server = app "tunneler-server";
          proxy = app "tunneler-proxy";
          gencerts = app "tunneler-gencerts";
        }
      );

      checks = forEachSystem (
        pkgs:
        {
          python = pkgs.callPackage ./nix/tests.nix {
            tunneler = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          };
        }
        // import ./vm-tests {
          inherit pkgs;
          module = self.nixosModules.default;
        }
      );

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.default ];
          packages = [
            pkgs.python3Packages.mypy
            pkgs.python3Packages.pytest
            pkgs.ruff
            pkgs.shellcheck
          ];
        };
      });

      formatter = forEachSystem (pkgs: pkgs.nixfmt-rfc-style);
    };
}
