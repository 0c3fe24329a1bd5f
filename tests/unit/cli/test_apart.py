"""Work in a process of its own; tried in a program that has, as ours when they start, one thread."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRELUDE = """
import sys
from tunneler.cli.apart import apart
from tunneler.errors import ConfigError, ExitStatus, TunnelerError
"""


def program(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + text], capture_output=True, text=True, timeout=30, check=False
    )


def test_the_result_comes_back_and_imports_do_not() -> None:
    ended = program("""
def work():
    import decimal
    return [1, "two", "decimal" in sys.modules]
print(apart(work), "decimal" in sys.modules)
""")
    assert (ended.stdout, ended.stderr) == ("[1, 'two', True] False\n", "")


def test_more_than_a_pipe_holds() -> None:
    assert program("print(len(apart(lambda: bytes(10**6))))").stdout == "1000000\n"


def test_an_error_comes_back_with_its_text_and_status() -> None:
    ended = program("""
def work():
    raise ConfigError("a.yaml", "log.level", "expected something else")
try:
    apart(work)
except TunnelerError as error:
    print(error, int(error.exit_status))
""")
    assert (ended.stdout, ended.stderr) == ("a.yaml: log.level: expected something else 2\n", "")


def test_a_bug_is_shown_and_ends_the_program() -> None:
    ended = program("apart(lambda: 1 / 0)\nprint('went on')")
    assert "ZeroDivisionError" in ended.stderr
    assert (ended.stdout, ended.returncode) == ("", 1)


def test_nothing_is_finished_twice() -> None:
    ended = program("""
import atexit
atexit.register(print, "finished")
print("printed, and not flushed yet", end="; ")
apart(int)
""")
    assert ended.stdout == "printed, and not flushed yet; finished\n"


@pytest.mark.parametrize("role", ["client", "server", "proxy"])
def test_a_role_has_no_use_for_what_validates(role: str) -> None:
    """The libraries that read a configuration, and those of the other transport, cost more than the role."""
    ended = program(f"""
import tunneler.cli.main, tunneler.roles.{role}
import tunneler.transport.native.dialer, tunneler.transport.native.listener
unwanted = ("pydantic", "yaml", "grpc", "aiohttp", "tunneler.config.model")
print([name for name in unwanted if name in sys.modules])
""")
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
