"""``python -m tunneler`` is ``tunneler``."""

from __future__ import annotations

from tunneler.cli.main import main

if __name__ == "__main__":
    main()
