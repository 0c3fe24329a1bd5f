"""The kind of machine that has a kernel of its own: QEMU, in software, on the bridges of the keeper.

A guest says ``booting`` and ``ready`` on its second serial line (:mod:`tests.lab.image`); QEMU's own monitor
listens at the socket ``qmp`` in the place of the host. Commands come by ssh over a net of the lab's own,
``management``, on which no guest hears another; the keeper holds one connection to each guest, at the
socket ``ssh``, so that a command costs no handshake, which takes a second in software emulation.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from tests.lab.machines import PLACE, SWITCH, Ear, Machine, Spec, execute, remove_port

MANAGEMENT = "management"
KEY = PLACE / "key"
"""Opens every guest."""
SSH_PORT = 2222
"""Of the lab's own sshd; 22 is the guest's own, to whatever uses it puts that."""

CPU = "Nehalem,+rdrand"
"""As many instruction sets as programs look for and no more: what has wide registers is slow in software."""
MEMORY = "512"
"""MiB."""
UNWANTED = (
    *("serial-getty@ttyS0.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount"),
    *("dev-hugepages.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
)
"""Units that no test needs, and that take seconds of each boot."""
KERNEL_COMMAND_LINE = (
    *("root=/dev/nvme0n1", "rw", "console=ttyS0", "quiet", "net.ifnames=0", "mitigations=off"),
    *("apparmor=0", "random.trust_cpu=on"),
    *(f"systemd.mask={unit}" for unit in UNWANTED),
)
SSH_OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
    # One attempt a second (ssh_config(5)), while a guest that goes down or comes up listens to nobody.
    *("-o", "ConnectTimeout=10", "-o", "ConnectionAttempts=60", "-o", "LogLevel=ERROR"),
)


class VirtualMachine(Machine):
    """A guest of qemu-system-x86_64(1).

    ``lab`` has the ``disk`` that all start from, the ``kernel``, and what the ``management`` net is like.
    """

    def __init__(self, host: Spec, lab: Spec, group: Path) -> None:
        super().__init__(host, lab, group)
        self._ssh: subprocess.Popen[bytes] | None = None
        os.mkfifo(self.place / "words")
        self._words = os.open(self.place / "words", os.O_RDWR | os.O_NONBLOCK)
        self._heard_so_far = b""
        self._boots_again = False

    def ears(self) -> Iterable[Ear]:
        return ((self._words, self._heard),)

    def _heard(self) -> None:
        *words, self._heard_so_far = (self._heard_so_far + os.read(self._words, 4096)).split(b"\n")
        for word in words:
            if word.strip() == b"booting":
                self._boots()
            elif word.strip() == b"ready":
                self.state = "running"
                self._connect()

    def _boots(self) -> None:
        self._hang_up()
        if self.leader:  # it has booted before, in this process
            self.boot += 1
        self.leader = self.pid
        self.state = "booting"

    def start(self) -> None:
        self._hang_up()
        super().start()

    def reaped(self, pid: int, status: int) -> None:
        super().reaped(pid, status)
        if self._ssh is not None and self._ssh.pid == pid:
            self._ssh.returncode = status
            self._ssh = None
            if self.state == "running":
                self._connect()

    def _connect(self) -> None:
        if self._ssh is None:
            self._ssh = self.launch(
                *("ip", "netns", "exec", SWITCH, "ssh", "-M", "-N", "-S", self.place / "ssh", "-i", KEY),
                *("-p", str(SSH_PORT), *SSH_OPTIONS, f"root@{self.spec['address']}"),
            )

    def _hang_up(self) -> None:
        if self._ssh is not None:
            self._ssh.send_signal(signal.SIGKILL)
            self._ssh.wait()
            self._ssh = None
        (self.place / "ssh").unlink(missing_ok=True)  # of a master that was killed

    def cut_power(self) -> None:
        # QEMU closes the disk's file, and says nothing to the guest.
        self._boots_again = True
        os.kill(self.pid, signal.SIGTERM)

    def _ended(self, status: int) -> None:
        if self._boots_again:
            self._boots_again = False
            self.start()
        else:
            super()._ended(status)

    def make_disk(self) -> None:
        disk = self.place / "disk.qcow2"
        execute("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", self.lab["disk"], disk)
        with tarfile.open(self.place / "setup.tar", "w") as setup:
            for path, content in self.spec["files"].items():
                data = content.encode()
                member = tarfile.TarInfo(path.lstrip("/"))
                member.size = len(data)
                member.mode = 0o600 if path.endswith("_key") else 0o644
                setup.addfile(member, BytesIO(data))

    def remove_disk(self) -> None:
        (self.place / "disk.qcow2").unlink()
        (self.place / "setup.tar").unlink()

    def make_cables(self) -> None:
        for cable in self.spec["cables"]:
            port = cable["port"]
            remove_port(port)
            execute("ip", "-n", SWITCH, "tuntap", "add", "dev", port, "mode", "tap")
            execute("ip", "-n", SWITCH, "link", "set", port, "master", cable["net"], "up")
            if cable["net"] == MANAGEMENT:
                isolated = ("type", "bridge_slave", "isolated", "on")
                execute("ip", "-n", SWITCH, "link", "set", port, *isolated)

    def command(self) -> tuple[str | Path, ...]:
        return (
            *("ip", "netns", "exec", SWITCH, "qemu-system-x86_64", "-nodefaults", "-no-user-config"),
            *("-display", "none", "-machine", "q35", "-accel", "tcg,tb-size=256", "-cpu", CPU, "-m", MEMORY),
            *("-kernel", self.lab["kernel"], "-append", " ".join(KERNEL_COMMAND_LINE)),
            *("-chardev", f"file,id=console,path={self.place}/console.log,append=on"),
            *("-chardev", f"file,id=words,path={self.place}/words"),
            *("-serial", "chardev:console", "-serial", "chardev:words"),
            *("-qmp", f"unix:{self.place}/qmp,server=on,wait=off", "-device", "virtio-rng-pci"),
            *self._disks(),
            *(option for cable in self.spec["cables"] for option in self._network(cable)),
        )

    def _disks(self) -> tuple[str, ...]:
        """Two name spaces of one controller, as controllers are found in no certain order."""
        # The disk is gone with the lab: nothing has to reach a medium.
        disk = f"file={self.place}/disk.qcow2,format=qcow2,cache=unsafe"
        return (
            *("-drive", f"if=none,id=disk,{disk}"),
            *("-drive", f"if=none,id=setup,file={self.place}/setup.tar,format=raw,read-only=on"),
            *("-device", "nvme,id=nvme,serial=lab"),
            *("-device", "nvme-ns,drive=disk,bus=nvme,nsid=1"),
            *("-device", "nvme-ns,drive=setup,bus=nvme,nsid=2"),
        )

    @staticmethod
    def _network(cable: Spec) -> tuple[str, ...]:
        net = cable["net"]
        return (
            *("-netdev", f"tap,id={net},ifname={cable['port']},script=no,downscript=no"),
            *("-device", f"virtio-net-pci,netdev={net},mac={cable['mac']},romfile="),
        )
