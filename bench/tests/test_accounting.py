"""Reading /proc, on processes made for it."""

from __future__ import annotations

import subprocess
import sys
import time

from bench.accounting import cpu_seconds, peak_bytes

BURN = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import time
memory = bytearray(64 << 20)
while time.process_time() < 0.3: pass
print("burnt", flush=True)
time.sleep(60)
'''])
child.wait()
"""


def test_descendants_count_alive_and_awaited() -> None:
    with subprocess.Popen((sys.executable, "-c", BURN), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"burnt\n"
        roles = {"some": [parent.pid], "none": []}
        alive = cpu_seconds(roles)
        assert alive["some"] >= 0.3
        assert alive["none"] == 0
        assert peak_bytes(roles)["some"] > 64 << 20
        listing = subprocess.run(
            ("pgrep", "-P", str(parent.pid)), capture_output=True, text=True, timeout=5, check=True
        )
        subprocess.run(("kill", listing.stdout.strip()), timeout=5, check=True)
        end = time.monotonic() + 5
        # Between the child's end and the parent's, its time has moved to the parent's account.
        while parent.poll() is None and time.monotonic() < end:
            if pids := cpu_seconds(roles)["some"]:
                assert pids >= 0.3
        parent.wait(5)
    assert cpu_seconds(roles)["some"] == 0
