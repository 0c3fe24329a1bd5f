"""The examples in the READMEs, as their readers copy them: what the tests run is the text itself."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCED = re.compile(r"^```(?:\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_HIDDEN = re.compile(r"^[ \t]*(?:```|~~~).*|(?<=\n\n)(?: {4}|\t).*", re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n)(?:    .+\n(?:\n(?=    ))?)+")


def examples(path: str) -> list[str]:
    """The code blocks of a file, fenced or indented, without their indentation."""
    text = (ROOT / path).read_text(encoding="utf-8")
    fenced = _FENCED.findall(text)
    indented = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in _INDENTED.findall(text)]
    return fenced + indented


def hidden(path: str) -> list[str]:
    """Lines where Markdown sees code and :func:`examples` does not: in a list, behind a tab, after ~~~."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return _HIDDEN.findall(_INDENTED.sub("", _FENCED.sub("", text)))


def example(path: str, start: str) -> str:
    """The one code block of a file that starts so."""
    (found,) = (block for block in examples(path) if block.startswith(start))
    return found
