"""The recipes that ship: found by name from anywhere and listed; and what `ehrmind demo` starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ehrmind.cli import demo, main
from ehrmind.config import first_sentence, load_recipe, shipped_recipes
from ehrmind.types import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory that is no checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Runs that the demo would start, in place of running them; its data set is an empty folder."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        demo, "run", lambda recipe, out, overrides, *, resume: found.append((recipe, out, overrides, resume))
    )
    monkeypatch.setattr(demo, "synthetic_ehr", lambda out, **how: out.mkdir(parents=True))
    return found


def ehrmind(*arguments: str) -> int:
    with mock.patch.dict("os.environ"), pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def keys_of(overrides: Sequence[str]) -> dict[str, str]:
    return dict(override.split("=", 1) for override in overrides)


def test_a_shipped_recipe_is_found_by_its_name_with_its_base_model() -> None:
    assert load_recipe(Path("demo")) == load_recipe(ROOT / "recipes" / "demo.yaml")
    assert load_recipe(Path("demo")).model.name == str(ROOT / "recipes" / "demo_base")


def test_the_name_of_a_demos_base_model_works_in_anybodys_recipe(tmp_path: Path) -> None:
    text = "data: {train: {synthetic: {n: 5}}, held_out: {synthetic: {n: 5, seed: 1}}}\nmodel: {name: demo_records}\n"
    (tmp_path / "mine.yaml").write_text(text)
    assert load_recipe(tmp_path / "mine.yaml").model.name == str(ROOT / "recipes" / "demo_records")
    (tmp_path / "demo_records").mkdir()
    assert load_recipe(tmp_path / "mine.yaml").model.name == str(tmp_path / "demo_records")


def test_a_file_wins_over_the_name_of_a_shipped_recipe_and_a_folder_does_not(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    assert load_recipe(Path("demo")).name == "demo"
    (tmp_path / "demo").rmdir()
    (tmp_path / "demo").write_text(
        "name: mine\ndata: {train: {synthetic: {n: 5}}, held_out: {synthetic: {n: 5}}}\nmodel: {tiny: {}}\n"
    )
    assert load_recipe(Path("demo")).name == "mine"


@pytest.mark.parametrize("name", ["dmeo", "recipes/demo", "demo.yaml"])
def test_an_unknown_name_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(Path(name))
    names = "demo, demo_ehr, demo_trials, ehr, medcalc, medcalc_3b, medcalc_smollm2, trials"
    assert str(caught.value) == f"There is no recipe at {name}; the names of those that ship are {names}."


def test_the_list_says_each_name_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert ehrmind("recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_recipes())
    width = max(map(len, shipped_recipes())) + 1
    assert all(line.endswith(".") and line[width].isupper() for line in lines), "sentences stand below each other"
    assert all(len(first_sentence(path)) <= 110 for path in shipped_recipes().values())


def test_the_demo_runs_all_three_families_and_goes_on_where_it_stopped(started: list[tuple[Any, ...]]) -> None:
    assert ehrmind("demo") == 0
    assert [(recipe.stem, out, resume) for recipe, out, _, resume in started] == [
        ("demo", "runs/demo", True),
        ("demo_trials", "runs/demo-trials", True),
        ("demo_ehr", "runs/demo-ehr", True),
    ]


@pytest.mark.parametrize("recipe", ["demo_trials", "demo_ehr"])
def test_the_demo_in_its_usual_place_is_the_recipe_as_it_stands(recipe: str, started: list[tuple[Any, ...]]) -> None:
    ehrmind("demo")
    (overrides,) = [given for path, _, given, _ in started if path.stem == recipe]
    assert overrides and load_recipe(Path(recipe), overrides) == load_recipe(Path(recipe))


def test_the_demo_takes_families_keys_and_another_place(started: list[tuple[Any, ...]], tmp_path: Path) -> None:
    assert ehrmind("demo", "ehr", "medcalc", "rlvr.steps=3", "--out", "on: disk") == 0
    assert [out for _, out, _, _ in started] == ["on: disk/demo-ehr", "on: disk/demo"]
    assert all(keys_of(overrides)["rlvr.steps"] == "3" for _, _, overrides, _ in started)
    recipe = load_recipe(started[0][0], started[0][2])
    files = [recipe.data.train.ehr, recipe.data.transfer["readmission"].ehr]
    assert [file.meds for file in files if file is not None] == [tmp_path / "on: disk" / "demo-meds"] * 2


def test_a_family_that_is_none_is_refused_before_anything_runs(
    started: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ehrmind("demo", "medcalc", "trails") == 2
    assert "name one of medcalc, trials, ehr" in capsys.readouterr().err and not started
