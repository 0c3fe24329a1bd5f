"""Reading /proc, on processes made for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from bench.accounting import Switches, context_switches, cpu_seconds, peak_bytes, resident_bytes
from bench.conditions import one_processor
from testbed import wait_until

CHILD = """
import os, time
memory = bytearray(64 << 20)
while time.process_time() < 0.3: pass
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {CHILD!r}])
sys.stdin.read()
"""


def test_descendants_count_whether_alive_or_awaited() -> None:
    command = (sys.executable, "-c", PARENT)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        roles = {"busy": [parent.pid], "nobody": []}
        alive = cpu_seconds(roles)
        assert alive["busy"] >= 0.3
        assert peak_bytes(roles)["busy"] > 64 << 20
        os.kill(child, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{child}").exists(), 5, "the child awaited by its parent")
        assert cpu_seconds(roles)["busy"] >= alive["busy"]
        assert alive["nobody"] == 0
        parent.communicate(timeout=5)
    assert cpu_seconds(roles)["busy"] == 0
    assert peak_bytes(roles)["busy"] == 0


WAITER = """
import sys
memory = None
for line in sys.stdin:
    memory = bytearray(64 << 20) if line == "take\\n" else None
    print(flush=True)
"""


def waited_since(roles: dict[str, list[int]], before: Switches) -> bool:
    return (context_switches(roles)["waiter"] - before).voluntary > 0


def test_memory_now_and_switches_of_every_thread() -> None:
    command = (sys.executable, "-c", WAITER)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        roles = {"waiter": [child.pid]}
        sizes = []
        for word in ("nothing", "take", "give"):
            before = context_switches(roles)["waiter"]
            print(word, file=child.stdin, flush=True)
            child.stdout.readline()
            wait_until(partial(waited_since, roles, before), 5, "the child waits again")
            sizes.append(resident_bytes(roles)["waiter"])
        child.stdin.close()
        child.wait(timeout=5)
    assert sizes[1] - sizes[0] > 60 << 20
    assert sizes[2] - sizes[0] < 4 << 20
    assert context_switches(roles)["waiter"] == Switches(0, 0)
    assert resident_bytes(roles)["waiter"] == 0


def test_switches_that_nobody_asked_for() -> None:
    """A thread that never waits loses the processor all the same, if another one wants it."""
    command = (sys.executable, "-c", "while True: pass")
    with one_processor(), subprocess.Popen(command) as one, subprocess.Popen(command) as other:
        try:
            wait_until(lambda: context_switches({"busy": [one.pid]})["busy"].involuntary > 2, 10, "switches")
        finally:
            one.kill()
            other.kill()
