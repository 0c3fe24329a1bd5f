"""sshuttle over a reverse tunnel: the site's sshd is reached through the server's.

proxy: ``ssh -R`` to the server, so that the server's port 2222 leads to the proxy's sshd.
client: sshuttle captures by netfilter and runs its other half at the proxy, through
``ssh`` to that port. The hop from the client is encrypted once, the other one twice; the
usual alternative (a jump host) would encrypt both twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.subjects.base import CACHE, SITE, Roles, program
from testbed import Host, Lab, wait_until

TUNNEL_PORT = 2222
START_DEADLINE = 15.0
LATENCY_BUFFER = 1 << 20
"""Bytes under way before sshuttle pauses to ask for an answer. With its default, 32 KiB, it is slow; with
``--no-latency-control`` it queues without bound, and a test with eight connections never ends."""

# UsePAM no: nothing of the machine's own login configuration takes part. StrictModes no: the keys lie in
# a temporary directory.
_SSHD = """\
Port 22
ListenAddress {address}
HostKey {directory}/host-key
AuthorizedKeysFile {directory}/user-key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
GatewayPorts clientspecified
UseDNS no
LogLevel ERROR
"""

# sshd insists on /run/sshd. ip(8) gave this command a mount namespace of its own: the machine's /run stays
# as it is.
_PRIVATE_RUN = ("sh", "-c", 'mount -t tmpfs tmpfs /run && mkdir -m 0755 /run/sshd && exec "$@"', "sh")

_SSH = """\
Host *
  User root
  IdentityFile {directory}/user-key
  IdentitiesOnly yes
  BatchMode yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  ExitOnForwardFailure yes
  ConnectTimeout 5
  LogLevel ERROR
"""


class Sshuttle:
    descriptors_per_connection = 1

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._roles = Roles()
        self._target = ""

    def start(self, lab: Lab) -> None:
        client, server, proxy = lab.host("client"), lab.host("server"), lab.host("proxy")
        sshuttle = program("sshuttle", CACHE / "sshuttle" / "bin")
        self._target = lab.host("target").address
        self._keys(server)
        self._start_sshd(server, "0.0.0.0")
        self._start_sshd(proxy, "127.0.0.1")
        near, far = server.address_on("access"), server.address_on("uplink")
        ssh = ("ssh", "-F", self._directory / "ssh.conf")
        forward = ("-N", "-R", f"{near}:{TUNNEL_PORT}:127.0.0.1:22", far)
        self._roles.add("proxy", proxy.spawn(*ssh, *forward, log=self._directory / "reverse.log"))
        _wait_for_listener(server, TUNNEL_PORT)
        options = ("--latency-buffer-size", str(LATENCY_BUFFER), "--method", "nat")
        through = ("--ssh-cmd", f"ssh -F {self._directory / 'ssh.conf'}")
        remote = ("--python", "/usr/bin/python3", "-r", f"root@{near}:{TUNNEL_PORT}")
        command = (sshuttle, *options, *through, *remote, SITE)
        self._roles.add("client", client.spawn(*command, log=self._directory / "sshuttle.log"))

    def stop(self) -> None:
        self._roles.stop()

    def processes(self) -> Mapping[str, Sequence[int]]:
        self._roles.check()
        return self._roles.pids()

    @property
    def target_address(self) -> str:
        return self._target

    def _keys(self, host: Host) -> None:
        for name in ("host-key", "user-key"):
            host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._directory / name)
        (self._directory / "ssh.conf").write_text(_SSH.format(directory=self._directory), encoding="utf-8")

    def _start_sshd(self, host: Host, address: str) -> None:
        file = self._directory / f"sshd-{host.name}.conf"
        file.write_text(_SSHD.format(directory=self._directory, address=address), encoding="utf-8")
        command = (*_PRIVATE_RUN, program("sshd", Path("/usr/sbin")), "-D", "-e", "-f", file)
        log = self._directory / f"sshd-{host.name}.log"
        self._roles.add(host.name, host.spawn(*command, log=log))
        _wait_for_listener(host, 22)


def _wait_for_listener(host: Host, port: int) -> None:
    def listening() -> bool:
        return bool(host.run("ss", "-Hltn", f"sport = :{port}").stdout)

    wait_until(listening, START_DEADLINE, f"a listener at {host.name} port {port}")
