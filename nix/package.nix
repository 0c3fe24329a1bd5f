# The suite: the three roles, their command line and the library. Everything else is nixpkgs'; the code that
# is generated from the .proto file is in the source, so that nothing is fetched.
{
  lib,
  nftables,
  python3Packages,
}:
let
  root = ../.;
  version = lib.head (
    builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ../tunneler/__init__.py)
  );
in
python3Packages.buildPythonApplication {
  pname = "tunneler";
  inherit version;
  pyproject = true;

  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      ../LICENSE
      ../README.md
      ../pyproject.toml
      ../tunneler
    ];
  };

  # nixpkgs' libnftables, by its path: the dynamic linker knows nothing of the store.
  postPatch = ''
    substituteInPlace tunneler/capture/libnftables.py \
      --replace-fail 'LIBRARY = "libnftables.so.1"' 'LIBRARY = "${lib.getLib nftables}/lib/libnftables.so.1"'
  '';

  build-system = [ python3Packages.setuptools ];

  dependencies = [
    python3Packages.aiohttp
    python3Packages.click
    python3Packages.cryptography
    python3Packages.grpcio
    python3Packages.hpack
    python3Packages.prometheus-client
    python3Packages.protobuf
    python3Packages.pydantic
    (python3Packages.callPackage ./python-iptables.nix { })
    python3Packages.pyyaml
    python3Packages.systemd-python
    python3Packages.uvloop
  ];

  pythonImportsCheck = [
    "tunneler"
    "tunneler.cli.main"
    "tunneler.roles.client"
    "tunneler.roles.server"
    "tunneler.roles.proxy"
    "tunneler.wire.tunnel_pb2"
  ];

  meta = {
    description = "Unmodified programs on one network reach TCP services on another, behind NAT";
    license = lib.licenses.mit;
    mainProgram = "tunneler";
    platforms = lib.platforms.linux;
  };
}
