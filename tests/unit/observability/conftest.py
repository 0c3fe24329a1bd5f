"""The admin port needs an event loop."""

from __future__ import annotations

from tests.loopback.running import pytest_pyfunc_call

__all__ = ["pytest_pyfunc_call"]
