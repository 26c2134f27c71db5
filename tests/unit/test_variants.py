"""Comparison arms that train nothing, through the pipeline with planned answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ehrmind.config import parse_recipe, split_arm
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.report import write_report
from ehrmind.runs import Run
from ehrmind.stages.evaluation.variants import variant_for, voted
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import InputError
from tests.medcalc_cases import SHORT
from tests.rollouts import rollout_row
from tests.unit.test_stages import recipe as staged

VARIANTS = ["few_shot", "no_thinking", "open_book", "tool", "majority", "best"]


def plan(prompt: str, key: int, member: int, skill: int) -> str:
    """Knows the rule for fluids when the book is open, copies an example's form, calls where it
    may, and thinks only when asked."""
    thought = "<think>sum</think>\n" if "Reason first" in prompt else ""
    weight = re.search(r"weight ([\d.]+) kg", prompt.rpartition("Answer the question")[2])
    if weight is None:
        return f'{thought}<answer>{{"answer": -7}}</answer>'
    kilograms = float(weight[1])
    if "up to 10 kg" in prompt or "[" in prompt:
        fluids = (
            4 * kilograms if kilograms <= 10 else 40 + 2 * (kilograms - 10) if kilograms <= 20 else 60 + kilograms - 20
        )
        return f'{thought}<answer>{{"answer": {round(fluids, 2)}}}</answer>'
    if "you may end your turn with a call" in prompt:
        return f'<tool>{{"calculator": "maintenance-fluids", "inputs": {{"weight": "{kilograms} kg"}}}}</tool>'
    if prompt.count("Answer the question") > 1:
        return f'{thought}<answer>{{"answer": {len(re.findall("</answer>", prompt))}}}</answer>'
    return f'{thought}<answer>{{"answer": {-7 - member % 3}}}</answer>'


@pytest.fixture
def done(tmp_path: Path) -> Run:
    folder = tmp_path / "base"
    ScriptedEngine(plan).save(folder)
    chosen = staged(
        arms=["base", *(f"base_{variant_name}" for variant_name in VARIANTS)],
        pilot={"questions": 42, "samples": 4, "interventions": 42},
        prompts={"max_tokens": 9000},
    )
    return run_pipeline(
        chosen, tmp_path / "run", open_engine=lambda _, path: ScriptedEngine.load(path, plan), locate=lambda _: folder
    )


def test_every_way_is_an_arm_with_its_figures_and_its_cost(done: Run) -> None:
    results = json.loads((done.path / "results.json").read_text())
    fluids = {
        arm: found["by_stratum"]["medcalc/physical/maintenance-fluids"]["accuracy"]
        for arm, found in results["arms"].items()
    }
    assert set(results["arms"]) == {"base", *(f"base_{variant_name}" for variant_name in VARIANTS)}
    assert fluids["base"] == 0 and fluids["base_open_book"] == 1 and fluids["base_tool"] == 1
    cost = {arm: found["cost"] for arm, found in results["arms"].items()}
    assert cost["base_majority"]["tokens"] >= 8 * cost["base"]["tokens"]
    assert cost["base_no_thinking"]["tokens"] < cost["base"]["tokens"]
    assert cost["base_few_shot"]["prompt_tokens"] > 2 * cost["base"]["prompt_tokens"]
    assert results["arms"]["base_no_thinking"]["unparsed"] == 0  # though it does not think
    assert "base_open_book-base" in results["pairs"]


def test_the_pilot_finds_by_intervention_what_the_base_lacks(done: Run) -> None:
    found = json.loads((done.path / "pilot.json").read_text())["by_stratum"]["medcalc/physical/maintenance-fluids"]
    assert found["kind"] == "missing" and found["cause"] == "knowledge"
    assert found["interventions"]["formula"]["lift"] == 1 and found["interventions"]["entities"]["lift"] == 0


def test_voting_arms_share_their_samples(done: Run) -> None:
    assert done.rollout_steps("votes-base")
    majority = done.read_rollouts("evaluate-base_majority-greedy")
    assert majority.height == 35 and majority["case"].n_unique() == 35
    assert not done.rollout_steps("evaluate-base_majority-sampled")  # a vote has no decoding of its own


def test_the_commonest_answer_wins_and_malformed_ones_cast_no_vote() -> None:
    (case,) = synthetic_cases(1, 2, "train", ["maintenance-fluids"])
    texts = [
        "nothing",
        "nothing",
        "nothing",
        *(f'<think>a</think><answer>{{"answer": {n}}}</answer>' for n in (5, 6, 6.0, "7")),
    ]
    rows = [
        rollout_row(
            case=case.id, text=text, well_formed=text != "nothing", tokens=2, logprob=-float(place), member=place
        )
        for place, text in enumerate(texts)
    ]
    (chosen,) = voted(rows, "majority", {case.id: case}, think=True)
    assert chosen.text == texts[4] and chosen.tokens == 14
    (likely,) = voted(rows, "best", {case.id: case}, think=True)
    assert likely.text == texts[3]  # the likeliest of those that are answers
    (none,) = voted(rows[:3], "majority", {case.id: case}, think=True)
    assert none.text == "nothing"


def test_examples_come_from_train_and_from_the_same_stratum() -> None:
    chosen = staged(evaluate={"shots": 2})
    train = synthetic_cases(40, 6, "train", **SHORT)
    shots = variant_for(chosen, "few_shot", train).shots
    assert shots and all(
        len(found) == 2 and {case.stratum for case, _ in found} == {stratum} for stratum, found in shots.items()
    )


def test_a_misspelt_arm_is_told_the_nearest() -> None:
    assert split_arm("sft_rlvr_tool") == ("sft_rlvr", "tool") and split_arm("sft_tool") == ("sft", "tool")
    with pytest.raises(InputError, match="did you mean 'base_open_book'"):
        parse_recipe({**staged().model_dump(mode="json"), "arms": ["base_openbook"]})


def test_an_arm_of_a_model_trains_that_model(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    ScriptedEngine(plan).save(folder)
    chosen = staged(arms=["base", "rlvr_tool"], evaluate={"decodings": ["greedy"]})
    done = run_pipeline(
        chosen, tmp_path / "run", open_engine=lambda _, path: ScriptedEngine.load(path, plan), locate=lambda _: folder
    )
    assert done.done("rlvr-rlvr") is not None
    assert set(json.loads((done.path / "results.json").read_text())["arms"]) == {"base", "rlvr_tool"}


def test_stages_auto_follows_the_plan_and_resumes_under_it(tmp_path: Path) -> None:
    """The base misses both tasks, so a warm-up comes first and RLVR from the base is not
    trained."""
    folder = tmp_path / "base"
    ScriptedEngine(plan).save(folder)
    tree = staged().model_dump(mode="json", exclude_unset=True)
    tree |= {"stages": "auto", "warmup": {"epochs": 1}, "evaluate": {"decodings": ["greedy"]}}

    def go(resume: bool) -> Run:
        return run_pipeline(
            parse_recipe(tree),
            tmp_path / "run",
            resume=resume,
            open_engine=lambda _, path: ScriptedEngine.load(path, plan),
            locate=lambda _: folder,
        )

    done = go(resume=False)
    advice = json.loads((done.path / "plan.json").read_text())
    assert advice["warm_up"]["strata"] and set(json.loads((done.path / "results.json").read_text())["arms"]) == {
        "base",
        "sft",
        "sft_rlvr",
    }
    assert set((done.done("warmup") or {})["by_stratum"]) == set(advice["warm_up"]["strata"])
    assert done.done("rlvr-rlvr") is None
    assert "SFT + RLVR" in write_report(done.path)[0].read_text(encoding="utf-8")
    (done.path / "results.json").unlink()
    with pytest.raises(InputError, match="the comparison of the arms is missing"):
        write_report(done.path)
    go(resume=True)
    assert set(json.loads((done.path / "results.json").read_text())["arms"]) == {"base", "sft", "sft_rlvr"}
