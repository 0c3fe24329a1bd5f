# The Python tests that need neither root nor hosts, against the installed package.
{
  lib,
  python3Packages,
  tunneler,
}:
tunneler.overridePythonAttrs (_: {
  pname = "tunneler-tests";
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../LICENSE
      ../README.md
      ../pyproject.toml
      ../testbed
      ../tests
      ../tunneler
    ];
  };
  nativeCheckInputs = [
    python3Packages.hypothesis
    python3Packages.pytest-timeout
    python3Packages.pytestCheckHook
  ];
  doCheck = true;
  enabledTestPaths = [
    "tests/unit/protocol"
    "tests/unit/config"
    "tests/http2"
  ];
})
