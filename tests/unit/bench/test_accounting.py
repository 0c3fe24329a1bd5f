"""Reading /proc, on processes made for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from bench.accounting import cpu_seconds, peak_bytes
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
