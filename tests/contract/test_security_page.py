"""SECURITY.md names a test for every promise; each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:unit|e2e|contract)/\w+\.py)::(\w+)`", PAGE)))
PROMISES = [
    row
    for row in PAGE.splitlines()
    if row.startswith("| ") and row.count("|") == 5 and not row.startswith(("| promise", "| ---"))
]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_a_promise_names_exists(file: str, name: str) -> None:
    path = TESTS / file
    assert path.is_file(), f"SECURITY.md names {file}, which is not there"
    functions = {
        node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
    }
    assert name in functions, f"SECURITY.md names {name}, which {file} does not have"


def test_every_promise_names_a_test() -> None:
    without = [row for row in PROMISES if "::test_" not in row]
    assert len(PROMISES) > 35 and not without
