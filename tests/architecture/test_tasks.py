"""Every task has an owner: a TaskGroup makes it, not the event loop."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.sources import ROOT, modules

LOOP_MAKERS = {"get_event_loop", "get_running_loop", "new_event_loop"}


def ownerless_tasks(tree: ast.AST) -> Iterator[int]:
    """Lines that make a task on a loop: what ruff's ban on ``asyncio.create_task`` does not see."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "create_task"
            and _is_loop(node.func.value)
        ):
            yield node.lineno


def _is_loop(receiver: ast.expr) -> bool:
    if isinstance(receiver, ast.Call):
        return _last_name(receiver.func) in LOOP_MAKERS
    return _last_name(receiver).lstrip("_").endswith("loop")


def _last_name(expression: ast.expr) -> str:
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def test_no_task_is_made_on_a_loop() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules()
        for line in ownerless_tasks(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("loop.create_task(f())", [1]),
        ("self._loop.create_task(f())", [1]),
        ("asyncio.get_running_loop().create_task(f())", [1]),
        ("group.create_task(f())", []),
        ("self._tasks.create_task(f())", []),
    ],
)
def test_which_calls_are_found(source: str, lines: list[int]) -> None:
    assert list(ownerless_tasks(ast.parse(source))) == lines
