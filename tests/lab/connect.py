"""``python -m tests.lab.connect HOST.LAB PORT``: become a connection to a port of a host.

For ssh's ProxyCommand, see :mod:`tests.lab.access`.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from testbed.topology import standard_topology
from tests.lab import beds, cgroups
from tests.lab.bed import BedError


def main() -> NoReturn:
    """Become nc(1), where it reaches the host."""
    name, _, lab = sys.argv[1].partition(".")
    try:
        bed = beds.found(standard_topology(), lab)
        if bed is None:
            raise BedError(f"{lab} is not up")
        command = bed.connection(name, int(sys.argv[2]))
        # It ends with the lab, whatever keeps it open.
        cgroups.join(cgroups.hierarchy() / lab / "connections")
    except (BedError, LookupError, ValueError) as error:
        sys.exit(f"lab: {error}")
    os.execvp(command[0], command)  # noqa: S606 # ssh ends what it started, by its pid


if __name__ == "__main__":
    main()
