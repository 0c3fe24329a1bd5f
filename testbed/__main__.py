"""``python -m testbed``: remove the labs that a killed run, or ``--keep``, left on this machine."""

from __future__ import annotations

from testbed.namespaces import Lab


def main() -> None:
    for name in Lab.sweep(kept=True):
        print(f"removed {name}")


if __name__ == "__main__":
    main()
