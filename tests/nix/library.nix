# The lib of nixpkgs where <nixpkgs> is found (NIX_PATH, or a channel); else as much of it as the modules here use.
let
  nixpkgs = builtins.tryEval <nixpkgs>;
in
if nixpkgs.success then import (nixpkgs.value + "/lib") else import ./lib.nix
