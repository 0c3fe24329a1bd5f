"""Do something in a process of its own, so that what it imported does not stay in this one."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from tunneler.errors import ExitStatus, TunnelerError

Result = TypeVar("Result")


class _Refused(NamedTuple):
    """What a :class:`TunnelerError` said over there."""

    text: str
    exit_status: ExitStatus


def apart(function: Callable[[], Result]) -> Result:
    """Call a function in a child process, and return what it returned there.

    To be called while this process has one thread. The result is pickled, and so must not be of
    a class whose module is not to be imported here.

    Raises:
        TunnelerError: the function raised one; with the same text and exit status.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _answer(function, writer)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as answers:
            answer = answers.read()
    finally:
        os.waitpid(child, 0)
    if not answer:
        raise SystemExit(ExitStatus.FAILURE)  # it has said why
    return result_of(answer)  # type: ignore[no-any-return]


def answer_of(function: Callable[[], object]) -> bytes:
    """What a function returns or refuses, for :func:`result_of` in another process."""
    try:
        answer = function()
    except TunnelerError as error:
        answer = _Refused(str(error), error.exit_status)
    return pickle.dumps(answer)


def result_of(answer: bytes) -> Any:
    """What the function returned.

    Raises:
        TunnelerError: the function raised one; with the same text and exit status.
    """
    result = pickle.loads(answer)  # noqa: S301 - of our own child
    if isinstance(result, _Refused):
        refusal = TunnelerError(result.text)
        refusal.exit_status = result.exit_status
        raise refusal
    return result


def _answer(function: Callable[[], object], writer: int) -> None:
    """Never returns: nothing of the parent's is finished twice."""
    try:
        answer = answer_of(function)
        with os.fdopen(writer, "wb") as answers:
            answers.write(answer)
    except KeyboardInterrupt:
        pass  # the parent was interrupted, too
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(0)
