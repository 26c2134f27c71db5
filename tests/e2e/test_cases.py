"""Inputs that went wrong once: small data sets and models with the traits of public bug reports,
each with a script that exits 0 when the product does right. They lie in the folder named by
EHRMIND_CASES, or in `shared/cases` next to the checkout, and are no part of the project. `make
cases` runs them all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.recipes import ROOT

CASES = Path(os.environ.get("EHRMIND_CASES", ROOT.parent / "shared" / "cases")).resolve()
GROUPS = ("data", "training", "attack")
# Minutes of continuous integration are few; `make test-long` and `make cases` run these too.
# Those below take half a minute to a minute each, and CI has tests of our own of the same kinds.
LONG = frozenset(
    {
        "attack/06-predict-deletes-dotfiles",
        "attack/13-kill-at-the-first-moment",
        "attack/14-torn-line-ends-the-run",
        "attack/15-torn-rollouts",
        "attack/16-flipped-checkpoint",
        "attack/17-two-processes-one-folder",
        "attack/24-resume-leaves-protected-open",
        "training/03-attention-dropout",
        "training/12-repetition-penalty",
        "training/13-date-in-template",
        "training/20-served-enable-thinking",
    }
)
OLD_NAMES = Path(__file__).parent / "old_names"
# Scripts whose names are gone, each with the test of our own that has the same trait.
REPLACED = {
    "training/16-opened-thinking-switched-off": "tests/unit/test_chat.py::"
    "test_a_thought_that_the_template_opens_is_closed_where_none_is_asked_for",
}
SKIPPED = 77  # what a script says that cannot run here; a skip is no pass


@cache
def can_trace() -> bool:
    """Some containers have strace and forbid what it does."""
    if shutil.which("strace") is None:
        return False
    tried = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=fsync", sys.executable, "-c", ""]
    return subprocess.run(tried, capture_output=True, check=False, timeout=60).returncode == 0


def scripts() -> list[Path]:
    return sorted(
        script for group in GROUPS for name in ("run.sh", "run.py") for script in CASES.glob(f"{group}/*/{name}")
    )


def name_of(script: Path) -> str:
    return f"{script.parent.parent.name}/{script.parent.name}"


@pytest.mark.parametrize("name", REPLACED)
def test_a_script_that_is_replaced_has_a_test_in_its_place(name: str) -> None:
    file, _, test = REPLACED[name].partition("::")
    assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")


def marked(script: Path) -> object:
    name = name_of(script)
    return pytest.param(script, id=name, marks=pytest.mark.long if name in LONG else pytest.mark.slow)


@pytest.mark.slow
def test_every_case_has_a_script() -> None:
    if not CASES.is_dir():
        pytest.skip(f"no cases at {CASES}; set EHRMIND_CASES to the folder that holds them")
    cases = {readme.parent for group in GROUPS for readme in CASES.glob(f"{group}/*/README.md")}
    assert cases and cases == {script.parent for script in scripts()}


@pytest.mark.parametrize("script", [marked(script) for script in scripts() if name_of(script) not in REPLACED])
def test_an_input_that_went_wrong_once_is_handled_right(script: Path) -> None:
    if "strace" in script.read_text(encoding="utf-8") and not can_trace():
        pytest.skip(
            f"{script.parent.name} needs strace, and none may trace here; tests/kills injects such faults without it"
        )
    interpreter = Path(sys.executable).absolute()
    named = {
        "EHRMIND": str(interpreter.with_name("ehrmind")),
        "PYTHON": str(interpreter),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(OLD_NAMES), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [named["PYTHON"] if script.suffix == ".py" else "bash", str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **named}, cwd="/", check=False, timeout=280
    )
    if done.returncode == SKIPPED:
        pytest.skip(f"{script.parent.name}: {done.stdout.strip()[-200:]}")
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
