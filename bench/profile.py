"""``python -m bench.profile``: where a role's time goes under a case, as flame graphs by py-spy.

    .venv/bin/python -m bench.profile --case http-32 --role server --output flame.svg

Without ``--role`` there is a graph for each, ``flame-client.svg`` and so on, of a run for each:
the sampler stops a role for a moment every time, and three at once leave little of its pace.
Still, speed measured meanwhile is no figure for a table.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.cases import CASES, Case
from bench.measure import FAILURES, bulk_server, stage
from bench.results import ROLES
from bench.scene import Measurement, Scene
from bench.subjects import SUBJECTS
from bench.subjects.base import SubjectError, program
from bench.subjects.tunneler import PROGRAMS
from testbed import Lab, Process

SUBJECTS_IN_PYTHON = ("tunneler", "tunneler-grpcio")
TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*')
DRAW_DEADLINE = 60.0
"""Seconds that py-spy may take to resolve what it sampled and to draw it."""
LOOK_DEADLINE = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("bench: needs root, to make network namespaces", file=sys.stderr)
        return 1
    Lab.sweep()
    case = next(case for case in CASES if case.name == options.case)
    outputs = _outputs(options.output, options.role)
    for role, output in outputs.items():
        try:
            with tempfile.TemporaryDirectory(prefix="tunneler-bench-") as scratch:
                done = _sample(options, case, Path(scratch) / role, role, output)
        except FAILURES as error:
            print(f"bench: {role}: {error}", file=sys.stderr)
            return 1
        _entitle(output, f"{options.subject}, {role}, under {case.name}")
        figure = f"{done.value:.0f} {case.unit} while it was sampled"
        print(f"{output}: {output.stat().st_size // 1024} KiB; {case.name}: {figure}", flush=True)
    return 0


def _sample(options: argparse.Namespace, case: Case, directory: Path, role: str, output: Path) -> Measurement:
    """Run the case once, and py-spy on one role for as long."""
    directory.mkdir()
    make = SUBJECTS[options.subject]
    with (
        case.under(),
        stage(make, directory, options.seconds) as scene,
        bulk_server(scene, case),
        _sampler(scene, role, options.rate, output),
    ):
        return case.run(scene)


@contextmanager
def _sampler(scene: Scene, role: str, rate: int, output: Path) -> Iterator[None]:
    """Sample one role until the end of the context, then draw.

    Raises:
        SubjectError: py-spy failed.
    """
    py_spy = program("py-spy", PROGRAMS)
    (pid,) = scene.subject.processes()[role]
    native = ("--native",) if _can_see_native(scene, py_spy, pid) else ()
    # --function: a box for each function instead of each line keeps the graph small.
    options = ("--pid", str(pid), "--rate", str(rate), "--function", *native)
    sampler = Process((py_spy, "record", *options, "--output", str(output)), scene.directory / "py-spy.log")
    try:
        sampler.wait_for_line(lambda line: "Sampling process" in line, LOOK_DEADLINE)
        yield
        sampler.send_signal(signal.SIGINT)
        if sampler.wait(DRAW_DEADLINE) != 0:
            raise SubjectError(f"{sampler}\n{sampler.tail()}")
    finally:
        sampler.stop()


def _can_see_native(scene: Scene, py_spy: str, pid: int) -> bool:
    """Whether the frames of C code can be had, which needs unwinding tables and symbols."""
    look = Process((py_spy, "dump", "--native", "--pid", str(pid)), scene.directory / "py-spy-look.log")
    return look.wait(LOOK_DEADLINE) == 0


def _entitle(graph: Path, title: str) -> None:
    """Say what the graph shows; py-spy puts its own command line there, with this machine's paths."""
    drawn = graph.read_text(encoding="utf-8")
    graph.write_text(TITLE.sub(rf"\g<1>{title}", drawn, count=1), encoding="utf-8")


def _outputs(output: Path, role: str | None) -> dict[str, Path]:
    if role is not None:
        return {role: output}
    return {each: output.with_stem(f"{output.stem}-{each}") for each in ROLES}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    names = [case.name for case in CASES]
    parser.add_argument("--case", choices=names, default="http-32", help="(default http-32)")
    parser.add_argument(
        "--subject", choices=SUBJECTS_IN_PYTHON, default="tunneler", help="(default tunneler)"
    )
    parser.add_argument("--role", choices=ROLES, help="this role only")
    parser.add_argument("--seconds", type=int, default=10, help="length of the load (default 10)")
    parser.add_argument("--rate", type=int, default=100, help="samples a second (default 100)")
    parser.add_argument("--output", type=Path, default=Path("flame.svg"), help="(default flame.svg)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
