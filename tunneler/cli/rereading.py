"""Read the configuration of a role that runs again: in a program of its own, which this module is, too.

Not in a forked child, as at the start: this process has threads by now (those that resolve names,
or gRPC's own), and has no business forking. Not in this process: see :mod:`tunneler.config.plain`.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from typing import TYPE_CHECKING, Any, Final

from tunneler.addresses import Role
from tunneler.cli.apart import answer_of, result_of
from tunneler.cli.settings import Values, load_values, print_warnings
from tunneler.errors import ConfigError

if TYPE_CHECKING:
    from tunneler.config.model import RoleConfig

SECONDS: Final = 30.0
"""For reading a few small files; more means that their disk does not answer."""

# -P: what lies in the working directory is not to be imported.
PROGRAM: Final = (sys.executable, "-P", "-m", __name__)


async def reread(role: Role, parameters: dict[str, Any], first: Values) -> RoleConfig:
    """The configuration as it is now, from the same files, environment and flags.

    Args:
        parameters: of the command, as it was started.
        first: what it was started with.

    Raises:
        TunnelerError: it cannot be used; what a ConfigError says.
    """
    values: Values = result_of(await _answer(pickle.dumps((role, parameters))))
    print_warnings(f"tunneler-{role}", values.warnings)
    config: Any = values.config
    if "client_id" not in first.given | values.given and role is Role.CLIENT:
        config.client_id = first.config.client_id  # type: ignore[attr-defined]  # made up, each time
    return values.config


async def _answer(question: bytes) -> bytes:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*PROGRAM, stdin=pipe, stdout=pipe)
    except OSError as error:
        complaint = f"the program that reads the configuration cannot be started: {error.strerror}"
        raise ConfigError("", "", complaint) from error
    try:
        async with asyncio.timeout(SECONDS):
            answer, _ = await process.communicate(question)
    except TimeoutError:
        raise ConfigError("", "", f"reading the configuration took longer than {SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not answer:
        raise ConfigError("", "", "the program that reads the configuration failed; it has said why")
    return answer


def _main() -> None:
    role, parameters = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the role that started us
    sys.stdout.buffer.write(answer_of(lambda: load_values(role, parameters)))


if __name__ == "__main__":
    _main()
