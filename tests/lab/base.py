"""The base tree: a small Debian with systemd, of this machine's release, from this machine's sources.

mmdebstrap(1) makes it in about a minute. The programs for the hosts are built with this machine's
Python, so both must be of one release.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.lab import cache

PACKAGES = (
    # the system
    *("systemd", "systemd-sysv", "dbus", "ca-certificates", "iproute2", "procps", "less", "util-linux"),
    # what the product needs, and no package of its own brings yet
    *("python3", "iptables", "nftables", "libnftables1"),
    # the unmodified programs that the hosts run
    *("curl", "iperf3", "iputils-ping", "netcat-openbsd", "nginx-light", "openssh-client", "openssh-server"),
)
MAKE_TIMEOUT = 900.0
"""Seconds; it takes about one minute where packages arrive quickly."""

UNWANTED = ("doc", "info", "lintian", "locale", "man")
"""Below /usr/share: what no host reads."""

SILENCED = (
    # They need the internet, or hardware, or a person.
    *(
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "fstrim.timer",
    ),
    *(
        "e2scrub_reap.service",
        "systemd-resolved.service",
        "systemd-timesyncd.service",
        "console-getty.service",
    ),
)
OFF = ("nginx.service", "ssh.service")
"""Started by those who want them."""


class MakingFailed(Exception):
    """A tree could not be made; says which command failed, and the end of what it printed."""


def tree() -> Path:
    """The tree, made now if need be.

    Raises:
        MakingFailed: mmdebstrap or apt(8) failed.
    """
    return cache.tree(
        "base", cache.digest([Path(__file__).read_bytes(), codename(), platform.machine()]), _make
    )


def codename() -> str:
    """The release of this machine, as in ``bookworm``."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def sources() -> list[str]:
    """This machine's own sources of its release, in the one-line style of sources.list(5).

    Raises:
        MakingFailed: there is none.
    """
    release = codename()
    wanted = (release, f"{release}-updates", f"{release}-security")
    fields = "$(RELEASE)\t$(COMPONENT)\t$(REPO_URI)"
    lines = run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]).splitlines()
    found = []
    for line in lines:
        suite, component, uri = line.split("\t")
        if suite in wanted and component == "main":
            found.append(f"deb {uri} {suite} {component}")
    if not any(f" {release} " in line for line in found):
        raise MakingFailed(
            f"apt has no source of {release} main: see /etc/apt/sources.list and sources.list.d"
        )
    return found


def _make(target: Path) -> None:
    shares = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNWANTED]
    hooks = [f'--customize-hook=chroot "$1" {command}' for command in _finishing()]
    bootstrap(target, PACKAGES, "--variant=minbase", *shares, *hooks)
    # An empty one is filled at the first boot (machine-id(5)); names and resolvers are the bed's to give.
    (target / "etc/machine-id").write_text("")
    for name in ("etc/hostname", "etc/resolv.conf", "etc/apt/sources.list"):
        (target / name).unlink(missing_ok=True)


def bootstrap(target: Path, packages: Iterable[str], *options: str) -> None:
    """Run mmdebstrap(1) for this machine's release, from its sources.

    Raises:
        MakingFailed: mmdebstrap or apt(8) failed.
    """
    # In namespaces of its own: whatever ends it, its mounts and its processes end too.
    alone = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    apt = [f"--aptopt={setting}" for setting in ('APT::Sandbox::User "root"', *_network_settings())]
    command = ("mmdebstrap", "--mode=root", f"--include={','.join(packages)}", *options, *apt)
    run([*alone, *command, codename(), str(target), "-"], input="\n".join(sources()) + "\n")


def _finishing() -> tuple[str, ...]:
    return (
        f"systemctl --quiet mask {' '.join(SILENCED)}",
        f"systemctl --quiet disable {' '.join(OFF)}",
        "systemctl --quiet set-default multi-user.target",
        "sh -c 'rm -f /etc/ssh/ssh_host_* /var/cache/apt/*.bin /var/lib/apt/lists/*_* /var/log/*.log'",
    )


def _network_settings() -> list[str]:
    """How this machine's apt reaches its sources: proxies, authorities (apt-transport-https(1))."""
    lines = run(["apt-config", "dump"]).splitlines()
    return [
        line.rstrip(";")
        for line in lines
        if line.startswith("Acquire::http") and ("Proxy" in line or "CaInfo" in line) and '""' not in line
    ]


def run(command: list[str], *, input: str = "", timeout: float = MAKE_TIMEOUT) -> str:
    """Run a command of making a tree; its standard output.

    Raises:
        MakingFailed: its exit status is not zero.
    """
    done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise MakingFailed(f"{command[0]} failed with status {done.returncode}: {' '.join(command)}\n{said}")
    return done.stdout
