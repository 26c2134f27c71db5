"""Probabilities from samples: each label's share among further answers feeds the measures, and
accuracy stays the decoding's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.cli.tables import show_results
from ehrmind.config import parse_recipe
from ehrmind.data.labels import label_truth
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.report import write_report
from ehrmind.runs import Run
from ehrmind.stages.evaluation.samples import label_shares
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.tasks.trials import eligibility_scores
from ehrmind.types import Case, InputError, Prompt
from tests.meds_data import write_meds
from tests.rollouts import rollout_row

SMALL = {"pilot": {"questions": 4, "samples": 2}, "arms": ["base"], "model": {"name": "base"}}
SAMPLES = {"decodings": ["greedy"], "probabilities": "samples", "samples": 4}


def answer(label: str) -> str:
    return f'<think>so</think>\n<answer>{{"answer": "{label}"}}</answer>'


def plan(prompt: str, key: int, member: int, skill: int) -> str:
    """Always no at first; two of the further answers name a high potassium, and a low one leaves
    nothing well-formed."""
    if member == 0:
        return answer("no")
    return answer("yes") if "5.6 mmol/L" in prompt and member < 3 else "who knows"


class Unasked(ScriptedEngine):
    def label_logprobs(self, asked: Sequence[Any]) -> list[list[float]]:
        raise AssertionError("nobody needs the answer's tokens")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ScriptedEngine(plan).save(tmp_path / "base")
    monkeypatch.setattr("ehrmind.measures.RESAMPLES", 20)  # intervals are not looked at here
    return tmp_path


def tree(folder: Path, **evaluate: Any) -> dict[str, Any]:
    source = {"ehr": {"meds": str(folder), "labels": str(folder / "labels" / "high_potassium")}}
    return {**SMALL, "data": {"source": source}, "evaluate": {**SAMPLES, "baseline": False, **evaluate}}


def run(recipe: Mapping[str, Any], out: Path, engine: type[ScriptedEngine] = Unasked, **options: Any) -> Run:
    return run_pipeline(
        parse_recipe(dict(recipe)),
        out,
        open_engine=lambda _, where: engine.load(where, plan),
        locate=lambda _: out.parent / "base",
        **options,
    )


def test_shares_rank_subjects_whom_the_single_answer_does_not_tell_apart(base: Path) -> None:
    done = run(tree(write_meds(base / "meds", 60)), base / "run")
    results = json.loads((done.path / "results.json").read_text())
    measured = results["arms"]["base"]["measures"]["ehr/high_potassium"]
    assert measured["risk"]["auroc"] == 1.0
    assert [place["risk"] for place in measured["risk"]["calibration"]] == [0.0, pytest.approx(2 / 3)]
    assert measured["confusion"][1][1] == 0  # the decoding's own answer is still no
    assert results["probabilities"] == "samples (4)"
    assert "baselines" not in results and not (done.protected / "baselines.json").exists()  # baseline: false
    assert [(row["arm"], row["decoding"]) for row in results["held_out_scorings"]] == [
        ("base", "greedy"),
        ("base", "samples"),
    ]


def test_further_answers_are_rollouts_as_any_and_the_page_says_where_probabilities_come_from(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(tree(write_meds(base / "meds", 60)), base / "run")
    rows = done.read_rollouts("samples-base")
    assert rows.height == 12 * 4 and rows["probabilities"].is_null().all() and set(rows["member"]) == {0, 1, 2, 3}
    assert (done.done("samples-base") or {})["held_out"] == 12
    (page,) = write_report(done.path)
    assert "Probabilities are shares of further answers to each question: samples (4)." in page.read_text()
    show_results(done)
    said = capsys.readouterr().out
    assert "measures of labels, probabilities from samples (4)" in said
    assert "AUROC" in said and "1.000" in said and "nDCG@10" not in said  # no empty column


def test_an_interrupted_sampling_goes_on_after_its_last_whole_batch(base: Path) -> None:
    recipe = {**tree(write_meds(base / "meds", 60)), "sampler_rows": 20}  # five questions a batch
    whole = run(recipe, base / "whole")
    asked: list[int] = []

    class Interrupted(Unasked):
        def sample(self, prompts: Sequence[Prompt], keys: Sequence[int], group_size: int, *rest: Any) -> Any:
            if group_size == 4:
                asked.append(len(prompts))
                if len(asked) == 2:
                    raise KeyboardInterrupt
            return super().sample(prompts, keys, group_size, *rest)

    with pytest.raises(KeyboardInterrupt):
        run(recipe, base / "run", Interrupted)
    again = run(recipe, base / "run", Interrupted, resume=True)
    assert asked == [5, 5, 5, 2]
    assert again.read_rollouts("samples-base").equals(whole.read_rollouts("samples-base"))
    assert len(again.scorings()) == 2


def test_pairs_of_patient_and_trial_are_ranked_by_shares_elsewhere_too(base: Path) -> None:
    def pairs(n: int, seed: int) -> dict[str, Any]:
        return {"synthetic": {"family": "trials", "n": n, "seed": seed, "difficulty": "easy"}}

    data = {
        "train": pairs(20, 0),
        "tuning": pairs(10, 1),
        "held_out": pairs(20, 2),
        "transfer": {"more": pairs(10, 7)},
    }
    data["transfer"]["calculations"] = {
        "synthetic": {"n": 6, "seed": 8, "tasks": ["maintenance-fluids"], "difficulty": "easy"}
    }

    def graded(prompt: str, key: int, member: int, skill: int) -> str:
        return answer(("eligible", "excluded", "not relevant", "eligible")[member])

    recipe = parse_recipe({**SMALL, "data": data, "evaluate": {**SAMPLES, "trec_runs": True}})
    done = run_pipeline(
        recipe, base / "run", open_engine=lambda _, where: Unasked.load(where, graded), locate=lambda _: base / "base"
    )
    lines = (done.path / "trec_runs" / "base-greedy.txt").read_text().splitlines()
    assert len(lines) == 20 and {line.split()[4] for line in lines} == {"1.25"}
    assert {mark.stem for mark in (done.path / "stages").glob("*samples.json")} == {"transfer-more-base-samples"}
    assert done.read_rollouts("transfer-more-base-samples").height == 40


def test_a_table_of_labels_is_sampled_and_a_run_without_labels_is_not(base: Path) -> None:
    table = base / "triage.csv"
    table.write_text(
        "question,answer\n" + "".join(f"Case {number}?,{'no' if number % 2 else 'yes'}\n" for number in range(20))
    )
    source = {"table": {"path": str(table), "kind": "label", "labels": ["no", "yes"]}}
    done = run({**SMALL, "data": {"source": source}, "evaluate": SAMPLES}, base / "labels")
    assert done.read_rollouts("samples-base").height == 4 * 4
    numbers = {
        split: {"synthetic": {"n": 7, "seed": seed}} for seed, split in enumerate(("train", "tuning", "held_out"))
    }
    done = run({**SMALL, "data": numbers, "evaluate": SAMPLES}, base / "numbers")
    assert "probabilities" not in json.loads((done.path / "results.json").read_text()) and not done.rollout_steps(
        "samples-base"
    )


def test_answer_tokens_stay_the_default_and_are_named(base: Path) -> None:
    done = run(tree(write_meds(base / "meds", 60), probabilities="answer_tokens"), base / "run", ScriptedEngine)
    assert json.loads((done.path / "results.json").read_text())["probabilities"] == "answer_tokens"
    assert done.read_rollouts("evaluate-base-greedy")["probabilities"].dtype == pl.List(pl.Float64)
    assert not done.rollout_steps("samples-base")
    assert parse_recipe({**SMALL, "data": tree(base / "meds")["data"]}).evaluate.probabilities == "answer_tokens"


def test_samples_that_cannot_differ_are_refused(base: Path) -> None:
    with pytest.raises(InputError, match=r"needs answers that differ; raise decoding\.temperature above 0"):
        parse_recipe({**tree(base), "decoding": {"temperature": 0.0}})


CASE = Case(
    "c", "trials", "eligibility", "s", "held_out", "g", {}, label_truth(1, ("not relevant", "excluded", "eligible"))
)


@given(st.lists(st.sampled_from([0, 1, 2, None]), min_size=1, max_size=30))
def test_shares_sum_to_one_and_malformed_answers_have_none(given: list[int | None]) -> None:
    rows = [
        rollout_row(
            well_formed=grade is not None, text=answer(CASE.truth["labels"][grade]) if grade is not None else "?"
        )
        for grade in given
    ]
    shares = label_shares(rows, {"c": CASE}, True).get("c")
    said = [grade for grade in given if grade is not None]
    assert (shares is None) == (not said)
    if shares is not None:
        assert sum(shares) == pytest.approx(1.0) and eligibility_scores([None], [shares]) == [
            pytest.approx(sum(said) / len(said))
        ]
