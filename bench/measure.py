"""One figure: one case through one subject, in a lab of its own, and what it cost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import accounting, target
from bench.accounting import Switches
from bench.cases import Case, Work
from bench.scene import CaseError, Growth, Scene
from bench.subjects import Subject, SubjectError
from bench.syscalls import system_calls
from testbed import CommandFailed, Lab, ProcessEndedError, standard_topology, wait_until

READY_DEADLINE = 30.0
"""Seconds from a subject's start to the target's first answer through it."""

QUIET_SECONDS = 0.3
QUIET_SHARE = 0.1
QUIET_DEADLINE = 5.0
"""A subject has started when for 0.3 s it used less than a tenth of a processor; waited for 5 s at most."""

FAILURES = (
    CaseError,
    SubjectError,
    CommandFailed,
    ProcessEndedError,
    TimeoutError,
    subprocess.TimeoutExpired,
)
"""What costs a subject its figure, and does not end the run."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One case, measured once.

    ``value`` is in the case's unit. By role: ``cpu``, the seconds spent on ``work`` units of
    work; ``switches`` and, if counted, ``system_calls``, the context switches and system calls
    meanwhile; ``peak_bytes``, the highest resident set since the start; and ``growth``, the
    memory that held connections took. A sample with a ``failure`` has nothing else.
    """

    round: int
    subject: str
    case: str
    value: float | None = None
    work: float = 0.0
    errors: int = 0
    cpu: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    switches: Mapping[str, Switches] = field(default_factory=dict)
    system_calls: Mapping[str, int] = field(default_factory=dict)
    growth: Mapping[str, Growth] = field(default_factory=dict)
    failure: str = ""


def measure(
    name: str,
    make: Callable[[Path], Subject],
    case: Case,
    *,
    number: int,
    seconds: int,
    directory: Path,
    count_system_calls: bool = False,
) -> Sample:
    """Measure one case in round ``number``, through a subject started for it in a fresh lab.

    So nothing else runs meanwhile, and no case finds what another left: full queues, or a
    TCP connection that has learnt to delay its acknowledgements.

    Never raises one of :data:`FAILURES`: they are recorded in the sample.
    """
    directory.mkdir(parents=True)
    try:
        with case.under(), stage(make, directory, seconds) as scene, bulk_server(scene, case):
            if not count_system_calls:
                return _run(scene, name, case, number)
            with system_calls(scene.subject.processes(), directory) as counts:
                sample = _run(scene, name, case, number)
            return replace(sample, system_calls=counts)
    except FAILURES as error:
        return Sample(number, name, case.name, failure=str(error))


@contextmanager
def stage(make: Callable[[Path], Subject], directory: Path, seconds: int) -> Iterator[Scene]:
    """A fresh lab with the target and a subject in it, which has come to rest.

    Raises one of :data:`FAILURES`.
    """
    with Lab(standard_topology()) as lab:
        target.prepare(lab, directory)
        subject = make(directory)
        subject.start(lab)
        try:
            _wait_for_target(lab, subject)
            _wait_for_quiet(subject)
            yield Scene(lab, subject, directory, seconds)
        finally:
            subject.stop()


def _run(scene: Scene, name: str, case: Case, number: int) -> Sample:
    cpu = accounting.cpu_seconds(scene.subject.processes())
    switches = accounting.context_switches(scene.subject.processes())
    done = case.run(scene)
    roles = scene.subject.processes()
    return Sample(
        number,
        name,
        case.name,
        done.value,
        done.work,
        done.errors,
        cpu={role: after - cpu[role] for role, after in accounting.cpu_seconds(roles).items()},
        switches={role: after - switches[role] for role, after in accounting.context_switches(roles).items()},
        peak_bytes=accounting.peak_bytes(roles),
        growth=done.growth,
    )


@contextmanager
def bulk_server(scene: Scene, case: Case) -> Iterator[None]:
    """The other end of iperf3, for the cases that need it."""
    if case.work is not Work.GIGABIT:
        yield
        return
    server = target.start_iperf3(scene.lab.host("target"), scene.directory / "iperf3.log")
    try:
        yield
    finally:
        server.stop()


def _wait_for_target(lab: Lab, subject: Subject) -> None:
    fetch = ("curl", "-sS", "--max-time", "2", f"http://{subject.target_address}/")

    def answers() -> bool:
        subject.processes()  # raises if one has ended: no use in waiting then
        return lab.host("client").run(*fetch, check=False).stdout == target.BODY

    wait_until(answers, READY_DEADLINE, f"the target's answer at {subject.target_address}")


def _wait_for_quiet(subject: Subject) -> None:
    """Wait until the subject is done with starting; a subject that never rests is measured as it is."""
    end = time.monotonic() + QUIET_DEADLINE
    used = sum(accounting.cpu_seconds(subject.processes()).values())
    while used and time.monotonic() < end:
        time.sleep(QUIET_SECONDS)
        before, used = used, sum(accounting.cpu_seconds(subject.processes()).values())
        if used - before <= QUIET_SHARE * QUIET_SECONDS:
            return
