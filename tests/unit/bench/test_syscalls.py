"""Reading what perf writes."""

from __future__ import annotations

import pytest

from bench.scene import CaseError
from bench.syscalls import parse_perf_stat

STARTED = "# started on Mon Jan  1 12:00:00 2024\n\n"


def test_the_count_of_the_event() -> None:
    assert parse_perf_stat(f"{STARTED}1234,,raw_syscalls:sys_enter,5000,100.00,,\n") == 1234


@pytest.mark.parametrize("output", ["", STARTED, f"{STARTED}<not counted>,,raw_syscalls:sys_enter,0,,,\n"])
def test_nothing_counted(output: str) -> None:
    with pytest.raises(CaseError, match="counted nothing"):
        parse_perf_stat(output)
