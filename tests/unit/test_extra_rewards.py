"""Extra rewards: functions that a recipe names are added to the training reward, and to nothing
else.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.config import Recipe, parse_recipe, recipe_digest
from ehrmind.data import save_cases
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.report.formatting import Cell
from ehrmind.report.reading import read_run
from ehrmind.report.tables.deviations import deviations
from ehrmind.runs import Run
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.stages.rlvr.extra_rewards import load_rewards
from ehrmind.types import InputError
from tests.medcalc_cases import SHORT

MODULE = """
def brevity(case, completion, verdict):
    return -completion.n_written / 1000

def agrees(case, completion, verdict):
    return verdict.correct

def not_a_number(case, completion, verdict):
    return float("nan")

def a_text(case, completion, verdict):
    return case.fields["note"]

def fails(case, completion, verdict):
    return {}[case.fields["note"]]

a_constant = 3.0
"""


def guess(prompt: str, key: int, member: int, skill: int) -> str:
    """Answers of different lengths; some are right by chance."""
    draw = random.Random(f"{key}:{member}")
    return f'<think>{"so " * draw.randrange(30)}</think>\n<answer>{{"answer": {draw.randrange(5)}}}</answer>'


def recipe(folder: Path, extra: dict[str, Any], **tree: Any) -> Recipe:
    rlvr = {"steps": 4, "questions_per_step": 4, "samples": 3, "tuning_every": 2, "checkpoint_every": 1}
    whole = {
        "data": {split: {"cases": [str(folder / f"{split}.parquet")]} for split in ("train", "tuning", "held_out")},
        "model": {"name": "scripted"},
        "pilot": {"questions": 6, "samples": 2, "interventions": 0},
        "rlvr": rlvr,
        "reward": {"extra": extra},
        "arms": ["base", "rlvr"],
    }
    return parse_recipe(whole | tree)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, (split, n) in enumerate({"train": 20, "tuning": 8, "held_out": 10}.items()):
        save_cases(synthetic_cases(n, seed, split, **SHORT), tmp_path / f"{split}.parquet")  # type: ignore[arg-type]
    ScriptedEngine(guess).save(tmp_path / "base")
    (tmp_path / "rewards_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run(out: Path, chosen: Recipe, **options: Any) -> Run:
    return run_pipeline(
        chosen,
        out,
        open_engine=lambda _, model: ScriptedEngine.load(model, guess),
        locate=lambda _: out.parent / "base",
        **options,
    )


def figures(done: Run) -> dict[str, Any]:
    """The figures that evaluation measured, without the seconds that it took."""
    found = json.loads((done.path / "results.json").read_text(), object_hook=without_seconds)
    return {name: found[name] for name in ("arms", "pairs", "decoding")}


def without_seconds(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name != "seconds"}


def test_a_part_of_its_own_name_is_summed_into_the_reward_that_is_learned_from(folder: Path) -> None:
    extra = {"brevity": {"function": "rewards_of_mine:brevity", "weight": 2.0}, "agrees": "rewards_of_mine:agrees"}
    done = run(folder / "run", recipe(folder, extra))
    rows = pl.DataFrame(done.read_rollouts("rlvr-rlvr")).to_dicts()
    for row in rows:
        assert row["parts"]["brevity"] == pytest.approx(-2 * row["tokens"] / 1000)
        assert row["parts"]["agrees"] == row["correct"]
        assert row["reward"] == pytest.approx(sum(row["parts"].values()))
    groups = [rows[place : place + 3] for place in range(0, len(rows), 3)]
    alike = [group for group in groups if len({(row["correct"], row["well_formed"]) for row in group}) == 1]
    assert len(alike) > 5
    for group in alike:  # without the extra rewards they would teach nothing
        best = max(group, key=lambda row: row["advantage"])
        assert best["advantage"] > 0 and best["tokens"] == min(row["tokens"] for row in group)


def test_the_log_has_the_mean_of_every_part_and_how_far_apart_they_were(folder: Path) -> None:
    done = run(folder / "run", recipe(folder, {"brevity": "rewards_of_mine:brevity"}))
    rows = pl.DataFrame(done.read_rollouts("rlvr-rlvr"))
    for step, logged in enumerate(row.values for row in done.metrics() if row.stage == "rlvr-rlvr"):
        parts = [-tokens / 1000 for tokens in rows.filter(pl.col("step") == step)["tokens"].to_list()]
        assert logged["reward_brevity"] == logged["extra_reward"] == pytest.approx(sum(parts) / len(parts))
        assert logged["extra_reward_range"] == pytest.approx(max(parts) - min(parts))


def test_evaluation_selection_and_pilot_are_the_same_with_and_without_extra_rewards(folder: Path) -> None:
    """The scripted model learns the same from any reward, so that only what sees the extra reward
    could differ.
    """
    plain = run(folder / "plain", recipe(folder, {}))
    more = run(folder / "more", recipe(folder, {"brevity": "rewards_of_mine:brevity"}))
    assert figures(plain) == figures(more)
    assert (plain.done("pilot") or {})["by_stratum"] == (more.done("pilot") or {})["by_stratum"]
    for name in ("tuning_accuracy", "accuracy", "format_rate"):
        of_both = [
            [row.values.get(name) for row in done.metrics() if row.stage == "rlvr-rlvr"] for done in (plain, more)
        ]
        assert of_both[0] == of_both[1]
    for stage in ("pilot", "evaluate-rlvr-greedy", "evaluate-base-greedy"):
        scored = pl.DataFrame(more.read_rollouts(stage))
        assert scored.height and set(scored["parts"][0]) == {"format", "outcome"}


def test_the_page_names_extra_rewards_among_the_departures_from_the_paper(folder: Path) -> None:
    extra = {"brevity": {"function": "rewards_of_mine:brevity", "weight": 0.5}}
    table = deviations(read_run(run(folder / "run", recipe(folder, extra))))
    assert table is not None
    (row,) = [row for row in table.rows if str(row[0]).startswith("reward.")]
    assert row == ["reward.extra.brevity", Cell("rewards_of_mine:brevity", "weight 0.5"), Cell("none", "the paper")]


def test_a_run_that_goes_on_without_the_module_is_refused_in_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = recipe(folder, {"brevity": "rewards_of_mine:brevity"})
    run(folder / "run", chosen, stages=("pilot",))
    monkeypatch.delitem(sys.modules, "rewards_of_mine")
    (folder / "rewards_of_mine.py").rename(folder / "away.py")
    with pytest.raises(InputError, match=r"reward\.extra\.brevity names the module rewards_of_mine, which is not inst"):
        run(folder / "run", chosen, resume=True)
    (folder / "away.py").rename(folder / "rewards_of_mine.py")
    assert run(folder / "run", chosen, resume=True).done("rlvr-rlvr") is not None


def test_reading_a_recipe_imports_nothing_that_it_names(folder: Path) -> None:
    (folder / "with_a_side_effect.py").write_text("raise SystemExit('imported')")
    chosen = recipe(folder, {"mine": "with_a_side_effect:reward"})
    assert chosen.reward.extra["mine"].weight == 1.0


def test_the_digest_follows_function_and_weight(folder: Path) -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"a": "m:f"},
        {"a": "m:g"},
        {"b": "m:f"},
        {"a": {"function": "m:f", "weight": 0.5}},
    ]
    assert len({recipe_digest(recipe(folder, extra)) for extra in ways}) == len(ways)
    assert recipe_digest(recipe(folder, {"a": "m:f"})) == recipe_digest(recipe(folder, {"a": {"function": "m:f"}}))


@pytest.mark.parametrize(
    "place", ["brevity", "../rewards.py:f", "/rewards:f", "a.b", "a:b:c", ".a:f", "a b:f", "a:f()"]
)
def test_only_names_that_can_be_imported_are_taken(folder: Path, place: str) -> None:
    with pytest.raises(InputError, match=r"reward\.extra\.mine\.function: write module:function"):
        recipe(folder, {"mine": place})


@pytest.mark.parametrize("name", ["format", "outcome", "Brevity", "a-b", "", "a/b"])
def test_a_name_that_is_taken_or_no_name_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match="neither format nor outcome"):
        recipe(folder, {name: "rewards_of_mine:brevity"})


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nowhere_at_all.rewards:f", "names the module nowhere_at_all.rewards, which is not installed here"),
        ("rewards_of_mine.deeper:f", "names the module rewards_of_mine.deeper, which is not installed here"),
        ("rewards_of_mine:nothing", "the module rewards_of_mine has no nothing"),
        ("rewards_of_mine:a_constant", "holds something that cannot be called as a_constant"),
        ("broken_module:f", "importing the module broken_module fails with SyntaxError"),
        ("needs_more:f", "importing the module needs_more fails with ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence_before_anything_is_sampled(folder: Path, place: str, said: str) -> None:
    (folder / "broken_module.py").write_text("def f(:")
    (folder / "needs_more.py").write_text("import not_a_package_of_anyone")
    with pytest.raises(InputError) as refused:
        run(folder / "run", recipe(folder, {"mine": place}))
    assert str(refused.value).startswith("reward.extra.mine") and said in str(refused.value)
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("not_a_number", "returned no finite number for an answer to"),
        ("a_text", "returned no finite number for an answer to"),
        ("fails", "failed with KeyError on an answer to"),
    ],
)
def test_a_result_that_is_no_finite_number_is_refused_without_quoting_it(
    folder: Path, function: str, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        run(folder / "run", recipe(folder, {"mine": f"rewards_of_mine:{function}"}), stages=("rlvr",))
    assert said in str(refused.value) and "year" not in str(refused.value)


def test_rewards_are_loaded_in_the_order_of_their_names_whatever_the_recipes_order(folder: Path) -> None:
    extra = {"b": "rewards_of_mine:agrees", "a": "rewards_of_mine:brevity"}
    assert list(load_rewards(recipe(folder, extra).reward.extra)) == ["a", "b"]
