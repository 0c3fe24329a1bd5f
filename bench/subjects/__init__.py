"""The programs under comparison, by the name that the command line knows them by."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.subjects.base import Subject, SubjectError
from bench.subjects.direct import Direct
from bench.subjects.nebula import Nebula
from bench.subjects.sshuttle import Sshuttle
from bench.subjects.tunneler import Tunneler
from bench.subjects.v2ray import V2ray

SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "direct": Direct,
    "tunneler": Tunneler,
    "tunneler-grpcio": partial(Tunneler, environment={"TUNNELER_TRANSPORT": "grpcio"}),
    "v2ray": V2ray,
    "v2ray-plain": partial(V2ray, tls=False),
    "nebula": Nebula,
    "sshuttle": Sshuttle,
}
"""Each takes a directory of its own for keys, configuration and logs."""

OURS = "tunneler"
UNRANKED = frozenset({"direct", "tunneler-grpcio", "v2ray-plain"})
"""Shown, but not counted as peers. One is ours, over another transport. The others do less: VMess alone has
one shared secret for both hops' parties and no forward secrecy; no program at all has nothing."""

__all__ = ["OURS", "SUBJECTS", "UNRANKED", "Subject", "SubjectError"]
