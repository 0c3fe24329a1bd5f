"""What a virtual machine boots from: Debian's kernel, and a disk with the trees that containers share.

The kernel is the one that Debian makes for clouds: what a virtual disk and ext4 need is built into it, so
that it boots without an initramfs. Of its modules those stay that a host of the lab may load.

A guest is told who it is by an archive on a second disk, which it unpacks at its first boot; see
:mod:`tests.lab.qemu` for what is in it. What runs in a guest for the lab's sake is below ``guest/``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab import base, cache, program
from tests.lab.base import run

KERNEL = "linux-image-cloud-amd64"
MODULES = (
    *("arch", "crypto", "lib", "net", "fs/autofs", "fs/fuse", "fs/overlayfs"),
    *("drivers/virtio", "drivers/net", "drivers/char/hw_random"),
)
"""Below kernel/, in the directory of the modules: what stays."""
MODULE_PROGRAMS = ("depmod", "insmod", "lsmod", "modinfo", "modprobe", "rmmod")
GUEST = Path(__file__).parent / "guest"
ENABLED = {
    "lab-setup.service": "sysinit",
    "lab-sshd.service": "multi-user",
    "lab-ready.service": "multi-user",
}
"""Units of ``guest/``, and the targets that want them."""
SIZE = "2G"
"""Of the disk; what is not used takes no place."""


def kernel() -> Path:
    """The tree with ``boot/vmlinuz``, its modules, and what loads them.

    Raises:
        MakingFailed: mmdebstrap or apt(8) failed.
    """
    sources = (Path(__file__), Path(base.__file__), *sorted(GUEST.iterdir()))
    key = cache.digest([base.codename(), *(source.read_bytes() for source in sources)])
    return cache.tree("kernel", key, _make_kernel)


def disk(*, bare: bool) -> Path:
    """The file with the disk that a host has first; ``bare``: without the product.

    Raises:
        MakingFailed: a tree or the file system could not be made.
    """
    trees = (kernel(), base.tree()) if bare else (program.tree(), kernel(), base.tree())
    key = cache.digest([Path(__file__).read_bytes(), *(tree.name for tree in trees)])
    return cache.tree("disk", key, lambda target: _make_disk(target, trees)) / "disk.raw"


def _make_kernel(target: Path) -> None:
    whole = target / "whole"
    base.bootstrap(whole, ("kmod", KERNEL), "--variant=extract")
    (version,) = (path.name for path in (whole / "lib/modules").iterdir())
    # Here, where it finds its libraries.
    _keep_modules(whole / "lib/modules" / version / "kernel")
    run(["chroot", str(whole), "depmod", version])
    for source, place in (
        (f"boot/vmlinuz-{version}", "boot/vmlinuz"),
        (f"lib/modules/{version}", f"usr/lib/modules/{version}"),
        ("bin/kmod", "usr/bin/kmod"),
    ):
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        (whole / source).rename(target / place)
    (target / "usr/sbin").mkdir()
    for name in MODULE_PROGRAMS:
        (target / "usr/sbin" / name).symlink_to("../bin/kmod")
    shutil.rmtree(whole)
    _install_guest(target)


def _keep_modules(directory: Path) -> None:
    kept = [directory / name for name in MODULES]
    for module in directory.rglob("*.ko*"):
        if not any(module.is_relative_to(place) for place in kept):
            module.unlink()


def _install_guest(target: Path) -> None:
    units = target / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for unit, wanted_by in ENABLED.items():
        shutil.copy(GUEST / unit, units / unit)
        wants = units / f"{wanted_by}.target.wants"
        wants.mkdir(exist_ok=True)
        (wants / unit).symlink_to(f"../{unit}")
    (target / "usr/lib/lab").mkdir()
    shutil.copy(GUEST / "setup", target / "usr/lib/lab/setup")


def _make_disk(target: Path, trees: tuple[Path, ...]) -> None:
    # No journal: replaying one after a power cut, two guests of four waited for ever for QEMU's NVMe.
    script = """
        mount -t overlay overlay -o "lowerdir=$1" "$2"
        truncate --size="$4" "$3"
        mke2fs -q -t ext4 -O ^has_journal -d "$2" "$3"
    """
    with_mounts_of_its_own = ("unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh")
    root = target / "root"
    root.mkdir()
    run([*with_mounts_of_its_own, ":".join(map(str, trees)), str(root), str(target / "disk.raw"), SIZE])
    root.rmdir()
