# python-iptables looks for its libraries with ldconfig, which knows nothing of the store.
{
  buildPythonPackage,
  fetchPypi,
  iptables,
  lib,
  setuptools,
}:
buildPythonPackage rec {
  pname = "python-iptables";
  version = "1.2.0"; # and the hash: requirements/runtime.txt
  pyproject = true;

  src = fetchPypi {
    pname = "python_iptables";
    inherit version;
    hash = "sha256-YPEg1Uj22UD2gvLHiFGVYBhYiTbeBbnV0zjDy5u0fKI=";
  };

  build-system = [ setuptools ];

  postPatch = ''
    substituteInPlace iptc/util.py \
      --replace-fail "os.environ.get('IPTABLES_LIBDIR', None)" \
                     "os.environ.get('IPTABLES_LIBDIR', '${lib.getLib iptables}/lib')"
    substituteInPlace iptc/xtables.py \
      --replace-fail 'os.getenv("XTABLES_LIBDIR")' \
                     'os.getenv("XTABLES_LIBDIR", "${lib.getLib iptables}/lib/xtables")'
  '';

  # Its tests change the packet filter of the machine that runs them.
  doCheck = false;
  pythonImportsCheck = [ "iptc" ];

  meta = {
    description = "Python bindings for iptables";
    homepage = "https://github.com/ldx/python-iptables";
    license = lib.licenses.asl20;
    platforms = lib.platforms.linux;
  };
}
