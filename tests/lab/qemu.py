"""The second bed: virtual machines in QEMU's software emulation, each with a kernel of its own.

They need no hardware's help, so they run wherever the containers do, many times slower.
"""

from __future__ import annotations

import json
import shlex
import shutil
import socket
from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from testbed.namespaces import kernel_settings, link_commands
from testbed.topology import HostSpec, Topology
from tests.lab import image
from tests.lab.bed import BedError, Feature
from tests.lab.kept import ENVIRONMENT, KeptBed, cable, hosts_file
from tests.lab.machines import SWITCH, Spec
from tests.lab.virtual import MANAGEMENT, SSH_PORT

NETWORK = "169.254.77"
"""Of the lab's own net: addresses that no topology has (RFC 3927)."""
KEEPER_NUMBER = 254
MONITOR_TIMEOUT = 20.0
PROGRAMS = ("mke2fs", "qemu-img", "qemu-system-x86_64")
"""Beyond what every bed needs."""

SSHD_CONFIG = """\
Port {port}
ListenAddress {address}
HostKey /etc/lab/ssh_host_key
AuthorizedKeysFile /etc/lab/authorized_keys
PasswordAuthentication no
UsePAM no
# Each command is a session of one connection.
MaxSessions 100
PidFile none
"""


class QemuBed(KeptBed):
    """Virtual machines; see :mod:`tests.lab.virtual` for how they are run."""

    kind = "virtual machine"
    time_scale = 10.0
    features = frozenset({Feature.RESOURCE_LIMITS, Feature.OWN_KERNEL})

    def _make(self, topology: Topology) -> Spec:
        for program in PROGRAMS:
            if not shutil.which(program):
                raise BedError(f"{program} is missing: scripts/setup --vm installs it")
        disk, kernel = image.disk(bare=self.bare), image.kernel()
        private, public = _key()
        host_key, _ = _key()
        common = {
            "/etc/hosts": hosts_file(topology),
            "/etc/lab/authorized_keys": public,
            "/etc/lab/ssh_host_key": host_key,
        }
        return {
            "trees": [str(disk.parent), str(kernel)],
            "disk": str(disk),
            "kernel": str(kernel / "boot/vmlinuz"),
            "nets": list(topology.nets()),
            MANAGEMENT: {"address": f"{NETWORK}.{KEEPER_NUMBER}/24", "key": private},
            "hosts": [_host_spec(topology, host, common) for host in topology.hosts],
        }

    def command(self, name: str, *argv: str) -> tuple[str, ...]:
        """See KeptBed; over the connection that the keeper holds, or not at all."""
        self._running(name)
        variables = [f"{key}={value}" for key, value in ENVIRONMENT.items()]
        only_it = ("-o", "ControlMaster=no", "-o", "ProxyCommand=false")
        line = shlex.join(["env", "-i", *variables, *argv])
        return ("ssh", "-F", "none", "-S", str(self._place(name, "ssh")), *only_it, "-q", name, line)

    def connection(self, name: str, port: int) -> tuple[str, ...]:
        self._running(name)
        address = _address(self.topology, self.topology.host(name))
        return self._inside("ip", "netns", "exec", SWITCH, "nc", "-N", address, str(port))

    def link(self, name: str, net: str, up: bool) -> None:
        self._monitor(name, "set_link", {"name": net, "up": up})

    def _monitor(self, name: str, command: str, arguments: dict[str, Any]) -> None:
        """Have QEMU do something; see the QEMU Machine Protocol.

        Raises:
            BedError: it says that it cannot; or it is not there.
        """
        orders = ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments})
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(MONITOR_TIMEOUT)
                connection.connect(str(self._place(name, "qmp")))
                with connection.makefile("rw", encoding="utf-8") as lines:
                    for order in orders:
                        lines.write(json.dumps(order) + "\n")
                        lines.flush()
                        answer = _answer(lines)
                        if "error" in answer:
                            raise BedError(f"{name}: {command}: {answer['error']['desc']}")
        except OSError as error:
            raise BedError(f"{name}: no answer from its monitor: {error}") from error


def _answer(lines: Iterable[str]) -> dict[str, Any]:
    """The next answer; greetings and events are passed over. OSError: there is none."""
    for line in lines:
        message: dict[str, Any] = json.loads(line)
        if message.keys() & {"return", "error"}:
            return message
    raise ConnectionError("it has gone away")


def _address(topology: Topology, host: HostSpec) -> str:
    return f"{NETWORK}.{topology.hosts.index(host) + 1}"


def _host_spec(topology: Topology, host: HostSpec, common: dict[str, str]) -> Spec:
    address = _address(topology, host)
    cables = [cable(host.name, net) for net in (*(at.net for at in host.attachments), MANAGEMENT)]
    return {
        "name": host.name,
        "address": address,
        "cables": cables,
        "files": {
            **common,
            "/etc/hostname": f"{host.name}\n",
            "/etc/lab/sshd_config": SSHD_CONFIG.format(port=SSH_PORT, address=address),
            "/etc/lab/network": _network_script(host, address, cables),
        },
    }


def _network_script(host: HostSpec, address: str, cables: list[Spec]) -> str:
    """What makes the interfaces of a guest be those of its host: names, settings, addresses, routes."""
    names = "".join(f"    {each['mac']}) ip link set ${{nic##*/}} name {each['net']} ;;\n" for each in cables)
    management = (f"addr add {address}/24 dev {MANAGEMENT}", f"link set {MANAGEMENT} up")
    commands = "\n".join((*link_commands(host), *management))
    return (
        f"for nic in /sys/class/net/eth*; do\n    case $(cat $nic/address) in\n{names}    esac\ndone\n"
        f"sysctl --quiet --write {' '.join(kernel_settings(host))}\n"
        f"ip -batch - <<'END'\n{commands}\nEND\n"
    )


def _key() -> tuple[str, str]:
    """A new pair of keys for ssh: the private one as a file, the public one as a line."""
    private = Ed25519PrivateKey.generate()
    file = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return file.decode(), f"{line.decode()}\n"
