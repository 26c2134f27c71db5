"""Words for the error of a chat template.

It may quote a turn, so only the template's own words are shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LITERAL = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
MISSING = re.compile(r"'(\w+)' is undefined|'[a-z]+(?: object)?' has no attribute '(\w+)'")  # as Jinja says it


def in_own_words(error: BaseException, template: Any) -> str:
    """Returns the error's text if all of it stands in the template, otherwise its type.

    `template` is a text, or several by name.
    """
    from jinja2 import TemplateSyntaxError, UndefinedError

    said, source = _line(str(error)), _source(template)
    if isinstance(error, TemplateSyntaxError) or said in {_line(literal) for literal in _literals(source)} - {""}:
        return said[:200].rstrip(".")
    missing = MISSING.fullmatch(said) if isinstance(error, UndefinedError) else None
    if missing and re.search(rf"\b{missing[1] or missing[2]}\b", source):
        return said[:200]
    return type(error).__name__


def _source(template: Any) -> str:
    return "\n".join(map(str, template.values())) if isinstance(template, Mapping) else str(template)


def _literals(source: str) -> list[str]:
    found = (single or double for single, double in LITERAL.findall(source))
    return [
        re.sub(r"\\(.)", lambda escaped: {"n": "\n", "t": "\t"}.get(escaped[1], escaped[1]), text) for text in found
    ]


def _line(text: str) -> str:
    return " ".join(text.split())
