"""Modules and functions stay small enough to be read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.sources import ROOT, modules

MODULE_LINES = 300
FUNCTION_LINES = 45

EXCUSED: dict[str, str] = {}
"""What may be longer, and why: ``path`` for a module, ``path:function`` for a function."""


def too_long() -> dict[str, int]:
    """Length in lines of whatever exceeds its limit."""
    found = {}
    for path in modules():
        name = str(path.relative_to(ROOT))
        if name.startswith("tests/"):
            continue  # a list of cases may be as long as there are cases
        text = path.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > MODULE_LINES:
            found[name] = lines
        found.update(
            (f"{name}:{function}", lines)
            for function, lines in function_lengths(ast.parse(text, name))
            if lines > FUNCTION_LINES
        )
    return found


def function_lengths(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Qualified name and lines of every function; decorators and docstring are not counted."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}", _lines(node) - _docstring_lines(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from function_lengths(node, f"{prefix}{node.name}.")
        else:
            yield from function_lengths(node, prefix)


def _lines(node: ast.stmt) -> int:
    assert node.end_lineno is not None  # it was parsed from text
    return node.end_lineno - node.lineno + 1


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return 0 if ast.get_docstring(node) is None else _lines(node.body[0])


def test_lengths() -> None:
    unexcused = {name: lines for name, lines in too_long().items() if name not in EXCUSED}
    assert unexcused == {}


def test_no_stale_excuse() -> None:
    assert set(EXCUSED) <= set(too_long())


def test_function_lengths_are_measured_without_docstrings() -> None:
    source = '''
class A:
    @property
    def b(self) -> int:
        """One

        two."""
        return 1
'''
    assert list(function_lengths(ast.parse(source))) == [("A.b", 2)]


def test_the_tree_is_seen() -> None:
    assert Path(__file__) in modules()
