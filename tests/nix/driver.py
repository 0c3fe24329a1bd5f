"""What the NixOS test driver gives to a testScript, for the type checker (nixos/lib/test-driver)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Machine(Protocol):
    """A virtual machine of a test."""

    def start(self) -> None: ...
    def crash(self) -> None: ...
    def succeed(self, *commands: str, timeout: int | None = None) -> str: ...
    def fail(self, *commands: str, timeout: int | None = None) -> str: ...
    def wait_for_unit(self, unit: str, user: str | None = None, timeout: int = 900) -> None: ...
    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str: ...


def machine() -> Machine:
    """Stands for the driver's own, one for each node."""
    raise NotImplementedError


def start_all() -> None:
    """Start all machines of the test."""


def subtest(name: str) -> AbstractContextManager[None]:
    """A part of the test, named in its log."""
    raise NotImplementedError
