"""``python -m bench.run``: the comparison, from the command line. Needs root, and ``bench/setup`` first."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.cases import CASES, Case
from bench.measure import Sample, measure
from bench.report import render
from bench.results import Results
from bench.subjects import SUBJECTS
from testbed import Lab


def main(arguments: Sequence[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("bench: needs root, to make network namespaces", file=sys.stderr)
        return 1
    Lab.sweep()
    cases = [case for case in CASES if case.name in options.cases]
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="tunneler-bench-") as scratch:
        try:
            for sample in _measure_all(options, cases, options.logs or Path(scratch)):
                samples.append(sample)
                _tell(sample, options.rounds)
        except KeyboardInterrupt:
            print("bench: interrupted; what follows is what was measured until then", file=sys.stderr)
    if options.output:
        options.output.write_text(json.dumps(_record(options, samples), indent=1) + "\n", encoding="utf-8")
    print(f"\n{render(Results(samples), options.subjects, cases)}")
    return 0 if any(sample.value is not None for sample in samples) else 1


def _measure_all(options: argparse.Namespace, cases: Sequence[Case], directory: Path) -> Iterator[Sample]:
    """Case by case, all subjects in turn: what is compared was measured within the same minute or two."""
    for number in range(1, options.rounds + 1):
        for case in cases:
            for subject in _rotated(options.subjects, number - 1):
                where = directory / f"{number}-{case.name}-{subject}"
                yield measure(
                    subject,
                    SUBJECTS[subject],
                    case,
                    number=number,
                    seconds=options.seconds,
                    directory=where,
                    count_system_calls=options.system_calls,
                )


def _rotated(subjects: Sequence[str], by: int) -> list[str]:
    """Every round begins with another subject, so that none always follows the same neighbour."""
    by %= len(subjects)
    return [*subjects[by:], *subjects[:by]]


def _tell(sample: Sample, rounds: int) -> None:
    figure = "failed" if sample.value is None else f"{sample.value:.0f}"
    where = f"{sample.round}/{rounds} {sample.case} {sample.subject}"
    print(f"{where}: {figure}", file=sys.stderr, flush=True)


def _record(options: argparse.Namespace, samples: Sequence[Sample]) -> dict[str, object]:
    """Everything that was measured, unrounded, for other programs."""
    return {
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "samples": [asdict(sample) for sample in samples],
    }


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument(
        "--rounds", type=_positive, default=3, help="times that every subject is visited (default 3)"
    )
    parser.add_argument(
        "--seconds", type=_positive, default=10, help="length of one measurement (default 10)"
    )
    parser.add_argument(
        "--subjects",
        type=_names_of(list(SUBJECTS)),
        default=list(SUBJECTS),
        help=f"of {','.join(SUBJECTS)} (all)",
    )
    names = [case.name for case in CASES]
    parser.add_argument("--cases", type=_names_of(names), default=names, help=f"of {','.join(names)} (all)")
    parser.add_argument("--system-calls", action="store_true", help="count them, by perf; costs a little")
    parser.add_argument("--output", type=Path, help="write every sample to this JSON file")
    parser.add_argument("--logs", type=Path, help="keep configurations and logs in this (new) directory")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected a number above 0")
    return number


def _names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A reader of comma-separated lists of names out of a fixed set."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)} among {', '.join(known)}")
        return list(dict.fromkeys(chosen))

    return read


if __name__ == "__main__":
    sys.exit(main())
