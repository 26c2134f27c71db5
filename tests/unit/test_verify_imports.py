"""The rooms around the verdict can be imported in any order, quickly and without heavy
libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

FIRST = [
    "ehrmind.verify",
    "ehrmind.parsing.parse",
    "ehrmind.verify.audit",
    "ehrmind.tasks",
    "ehrmind.prompts",
    "ehrmind.prompts.chat",
]
HEAVY = {"torch", "polars", "numpy", "pint", "transformers", "pyarrow"}


@pytest.mark.parametrize("module", FIRST)
def test_a_room_can_be_imported_first_and_brings_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module}; from ehrmind.verify import judge; assert callable(judge);"
        f" print(*sorted(set(sys.modules) & {HEAVY!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
