"""The way to the hosts of a lab for programs that come by ssh, as Ansible does.

A directory gets an ssh_config(5), a key that was made for this lab, and an inventory; the hosts get a sshd
that takes that key. No port is opened on the machine: ssh's packets enter the namespace of the host
(:mod:`tests.lab.connect`). So it works whichever cables are cut, and again after a reboot.
"""

from __future__ import annotations

import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from testbed.processes import execute
from testbed.suite import CAPTURED, PORT, SITE
from tests.lab import program
from tests.lab.bed import Bed
from tests.lab.rollout import run
from tunneler.addresses import Role

KEYGEN_TIMEOUT = 20.0
INVENTORY = "inventory.yml"
SSH_CONFIG = "ssh_config"
KEY = "id_ed25519"

_SERVE_SSH = (
    "rm -f /etc/ssh/ssh_host_*",
    "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key",
    "systemctl --quiet enable --now ssh.service",
)


def give(bed: Bed, lab: str, directory: Path) -> Path:
    """Let programs in by ssh; the path of the inventory. ``lab`` is the name of the lab's cgroup.

    Raises:
        BedError: a host does not start its sshd.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = directory / KEY
    for old in (key, key.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    execute(
        ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", lab, "-f", str(key)), timeout=KEYGEN_TIMEOUT
    )
    public = key.with_suffix(".pub").read_text(encoding="ascii")

    def serve(name: str) -> None:
        bed.put(name, "/root/.ssh/authorized_keys", public, mode=0o600)
        run(bed, name, " && ".join(_SERVE_SSH))

    names = [host.name for host in bed.topology.hosts]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(serve, names))
    (directory / SSH_CONFIG).write_text(_ssh_config(lab, key), encoding="utf-8")
    path = directory / INVENTORY
    path.write_text(yaml.safe_dump(inventory(bed, lab, directory), sort_keys=False), encoding="utf-8")
    return path


def _ssh_config(lab: str, key: Path) -> str:
    command = shlex.join(("env", f"--chdir={program.ROOT}", sys.executable, "-m", "tests.lab.connect"))
    return f"""\
Host *.{lab}
    User root
    IdentityFile {key}
    IdentitiesOnly yes
    # The key of a host is new whenever the lab is.
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
    ProxyCommand {command} %h %p
"""


def inventory(bed: Bed, lab: str, directory: Path) -> dict[str, Any]:
    """The hosts and the site's own values, as an administrator would write them for Ansible."""
    server = bed.topology.host("server")
    proxies, clients = (f"{server.ipv4(net)}:{PORT}" for net in ("uplink", "access"))
    settings: dict[Role, dict[str, Any]] = {
        Role.SERVER: {
            "server_listen_addr": f":{PORT}",
            "pki_server_names": [str(address) for address in server.addresses()],
        },
        Role.PROXY: {"proxy_server_addr": proxies, "proxy_id": "proxy-1", "proxy_managed_cidr": SITE},
        Role.CLIENT: {"client_server_addr": clients, "client_target_cidr": CAPTURED},
    }
    return {
        "all": {
            "vars": {
                "ansible_user": "root",
                "ansible_become": False,  # root already, and no sudo is there
                "ansible_ssh_common_args": f"-F {shlex.quote(str(directory / SSH_CONFIG))}",
                "ansible_ssh_pipelining": True,
                "ansible_python_interpreter": "/usr/bin/python3",
            },
            "children": {
                f"tunneler_{role}": {
                    # The name is the lab's, too: ssh's connections are shared by name.
                    "hosts": {str(role): {"ansible_host": f"{role}.{lab}"}},
                    "vars": values,
                }
                for role, values in settings.items()
            },
        }
    }
