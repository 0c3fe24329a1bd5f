"""Coroutine functions are tests here, too."""

from __future__ import annotations

from tests.loopback.running import pytest_pyfunc_call

__all__ = ["pytest_pyfunc_call"]
