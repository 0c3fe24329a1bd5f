"""What is started under a condition inherits it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from bench.conditions import many_descriptors, one_processor


def of_a_child(expression: str) -> str:
    command = (sys.executable, "-c", f"import os, resource; print({expression})")
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()


def test_one_processor_for_all_and_for_no_longer_than_wanted() -> None:
    before = os.sched_getaffinity(0)
    with one_processor() as chosen:
        assert of_a_child("os.sched_getaffinity(0)") == str({chosen})
    assert os.sched_getaffinity(0) == before
    with pytest.raises(KeyError), one_processor():
        raise KeyError
    assert os.sched_getaffinity(0) == before


def test_as_many_descriptors_as_the_machine_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] - 1, before[1]))
    try:
        with many_descriptors():
            assert of_a_child("resource.getrlimit(resource.RLIMIT_NOFILE)") == str((before[1], before[1]))
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[0] - 1, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
