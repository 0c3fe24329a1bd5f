"""``scripts/lab``: the lab for people."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from testbed.topology import standard_topology
from tests.lab import access, base, cgroups, program
from tests.lab.base import MakingFailed
from tests.lab.bed import BedError
from tests.lab.nspawn import NspawnBed
from tests.lab.rollout import Rollout, fetch, serve_page

ACCESS = program.ROOT / ".lab"
"""How ansible comes to a lab that is kept: there while it is up."""
SHELL = ("bash", "--login")


def main() -> int:
    """Run one command; its exit status."""
    arguments = _parse()
    if os.geteuid() != 0:
        print("lab: run as root: hosts cannot be made otherwise", file=sys.stderr)
        return 1
    try:
        return int(arguments.command(arguments))
    except (BedError, MakingFailed, FileNotFoundError, LookupError, TimeoutError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/lab", description="Four hosts that boot systemd, with the three roles as services."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="make the hosts, and a working path between them")
    up.add_argument("--bare", action="store_true", help="hosts without the product, for ansible")
    up.set_defaults(command=_up)
    commands.add_parser("down", help="end and remove them").set_defaults(command=_down)
    commands.add_parser("status", help="show how they are").set_defaults(command=_status)
    shell = commands.add_parser("shell", help="be root on one: client, server, proxy or target")
    shell.add_argument("host")
    shell.set_defaults(command=_run, argv=SHELL)
    run = commands.add_parser("run", help="run one program as root on one")
    run.add_argument("host")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="PROGRAM …")
    run.set_defaults(command=_run)
    inventory = commands.add_parser("inventory", help="print the name of the inventory for ansible")
    inventory.set_defaults(command=_inventory)
    build = commands.add_parser("build", help="make the trees that hosts boot from, if they are not there")
    build.set_defaults(command=_build)
    return parser.parse_args()


def _up(arguments: argparse.Namespace) -> int:
    if _found():
        raise BedError("it is up already; see scripts/lab status")
    _build(arguments)
    began = time.monotonic()
    with NspawnBed(bare=arguments.bare) as bed:
        bed.up(standard_topology(), name=cgroups.KEPT)
        print(f"up in {time.monotonic() - began:.1f} s: {', '.join(bed.state())}", flush=True)
        try:
            if arguments.bare:
                serve_page(bed)
            else:
                with tempfile.TemporaryDirectory(prefix="tunneler-lab-") as directory:
                    Rollout(bed, Path(directory) / "certs").everything()
                print(f"path works after {time.monotonic() - began:.1f} s: http://100.64.1.5/ on the client")
            inventory = access.give(bed, bed.name, ACCESS)
        finally:
            bed.keep()  # where something did not work somebody will want to look
    print(f"inventory for ansible: {inventory.relative_to(program.ROOT)}")
    print("scripts/lab shell client|server|proxy|target to be there; scripts/lab down to end it")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    group = cgroups.hierarchy() / cgroups.KEPT
    existed = cgroups.populated(group)
    cgroups.end(group)
    cgroups.sweep()
    shutil.rmtree(ACCESS, ignore_errors=True)
    print("down" if existed else "it was not up")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    bed = _found()
    if bed is None:
        print("down")
        return 3  # as systemctl(1) says of a unit that is not active
    for name, state in bed.state().items():
        print(f"{name:<8} {state['state']:<8} {' '.join(map(str, bed.topology.host(name).addresses()))}")
        if state["state"] == "running":
            listing = "systemctl --no-legend --plain list-units --all 'tunneler*' nginx.service"
            for line in bed.host(name).run(listing).stdout.splitlines():
                unit, _, active, sub, *_ = line.split()
                print(f"  {unit:<28} {active} ({sub})")
    works = bool(fetch(bed)) if bed.state()["client"]["state"] == "running" else False
    print(f"path     {'works' if works else 'does not work'}: http://100.64.1.5/ from the client")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    bed = _found()
    if bed is None:
        raise BedError("it is not up; see scripts/lab up")
    bed.topology.host(arguments.host)
    command = bed.command(arguments.host, *arguments.argv)
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606 # the terminal is the program's


def _inventory(arguments: argparse.Namespace) -> int:
    if _found() is None:
        raise BedError("it is not up; see scripts/lab up")
    print(ACCESS / access.INVENTORY)
    return 0


def _build(arguments: argparse.Namespace) -> int:
    for tree in (base.tree, program.tree):
        began = time.monotonic()
        tree()
        if time.monotonic() - began > 1:
            print(f"made the {tree.__module__.rpartition('.')[2]} tree in {time.monotonic() - began:.0f} s")
    return 0


def _found() -> NspawnBed | None:
    return NspawnBed.found(standard_topology(), cgroups.KEPT)


if __name__ == "__main__":
    sys.exit(main())
