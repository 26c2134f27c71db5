"""A folder that a kill leaves before there is work in it: the same command takes it, and so does
--resume.
"""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ehrmind.config import Recipe, parse_recipe
from ehrmind.runs import Run, open_run
from ehrmind.runs.lock import only_writer
from ehrmind.runs.predictions import Predictions, open_predictions
from ehrmind.types import InputError
from tests.killed import DONE, in_child

ASKED = {"model": {"name": "m"}, "settings": {"samples": 1}}


@pytest.fixture
def recipe() -> Recipe:
    synthetic = {"synthetic": {"n": 4, "seed": 1}}
    return parse_recipe({"name": "t", "data": {"train": synthetic, "held_out": synthetic}, "model": {"tiny": {}}})


def litter(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".") or "partial" in path.name]


def copies_of_each_kill(begin: Callable[[Path], object], tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """(a copy of what a kill at the n-th change left, whether to resume it), for every n before the
    end."""
    for nth in itertools.count(1):
        left = tmp_path / "left"
        ended = in_child(partial(begin, left), killed_at=nth)
        if ended == DONE:
            return
        assert ended == -signal.SIGKILL
        for resume in (False, True):
            copy = tmp_path / f"{nth}-{resume}"
            if left.exists():
                shutil.copytree(left, copy)
            yield copy, resume
        shutil.rmtree(left, ignore_errors=True)


def test_a_run_killed_at_any_change_before_its_recipe_is_taken_by_both(recipe: Recipe, tmp_path: Path) -> None:
    def begin(folder: Path, resume: bool = False) -> Run:
        with only_writer(folder):
            return open_run(folder, recipe, resume=resume)

    tried = 0
    for copy, resume in copies_of_each_kill(begin, tmp_path):
        tried += 1
        if not resume and (copy / "manifest.json").is_file():
            with pytest.raises(InputError, match="--resume"):
                begin(copy)
            continue
        run = begin(copy, resume=resume)
        assert (run.path / "recipe.yaml").is_file() and run.protected.stat().st_mode & 0o777 == 0o700
        assert not litter(copy), f"killed at change {copy.name}"
    assert tried >= 2 * 10


def test_predictions_killed_at_any_change_before_they_begin_are_taken_by_both(tmp_path: Path) -> None:
    def begin(folder: Path, resume: bool = False) -> Predictions:
        with only_writer(folder):
            return open_predictions(folder, ASKED, resume=resume)

    tried = 0
    for copy, resume in copies_of_each_kill(begin, tmp_path):
        tried += 1
        if not resume and (copy / "asked.json").is_file():
            continue
        assert begin(copy, resume=resume).asked() == ASKED
        assert copy.stat().st_mode & 0o777 == 0o700 and not litter(copy), f"killed at change {copy.name}"
    assert tried >= 2 * 5
