"""The pilot's answers: chance level, reliable pass@k, kinds of strata, causes, and the plan made of
them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ehrmind.config import parse_recipe
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.prompts import gold_response
from ehrmind.runs.records import (
    Diagnosis,
    ExpectedGain,
    ExpectedGains,
    Lift,
    PilotFigures,
    Plan,
    Results,
    RolloutRow,
    Unsettled,
    rollout_rows,
)
from ehrmind.stages.pilot.diagnosis import (
    MISAPPLIED,
    MISSING,
    SOLID,
    chance_of,
    diagnose,
    entropy_of,
    kind_of,
    needed_samples,
)
from ehrmind.stages.pilot.interventions import _lifts, cause_of
from ehrmind.stages.pilot.plan import compare_gains, expected_gain, make_plan, planned
from ehrmind.types import Case, Completion, Group, Prompt, Segment
from ehrmind.verify.judge import judge
from tests.medcalc_cases import SHORT

SCORES = synthetic_cases(60, 4, "train", ["curb-65"], difficulty="easy")[:40]
WRONG = '<think>guess</think>\n<answer>{"answer": -7}</answer>'
Answer = Callable[[Case, int], str]


def rows_of(cases: Sequence[Case], members: int, answer: Answer) -> list[RolloutRow]:
    groups = []
    for case in cases:
        texts = [answer(case, member) for member in range(members)]
        said = [Completion((Segment("assistant", (1,), (0.0,)),), "stop", text) for text in texts]
        groups.append(Group(case, Prompt((1,)), said, [judge(case, text) for text in texts]))
    return rollout_rows("pilot", "base", 0, groups)


def diagnosed(cases: Sequence[Case], members: int, answer: Answer) -> Diagnosis:
    return diagnose(rows_of(cases, members, answer), members, {case.id: case for case in cases})


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return synthetic_cases(60, 4, "train", ["curb-65", "maintenance-fluids"], difficulty="easy")


@pytest.mark.parametrize(("right", "kind"), [(8, SOLID), (4, MISAPPLIED), (0, MISSING)])
def test_a_stratum_is_named_by_how_many_of_its_samples_are_right(cases: list[Case], right: int, kind: str) -> None:
    found = diagnosed(cases, 8, lambda case, member: gold_response(case) if member < right else WRONG)
    for figures in found.by_stratum.values():
        assert figures.kind == kind
        assert figures.pass_at_1 == right / 8 and figures.pass_at_k == (right > 0)


def test_answers_drawn_from_other_questions_are_luck_and_not_knowledge(cases: list[Case]) -> None:
    """A model that writes scores at random is right now and then; reliable pass@k does not fall for
    it, pass@k does."""
    scores = [case for case in cases if case.task == "curb-65"]

    def shuffled(case: Case, member: int) -> str:
        return gold_response(random.Random(f"{case.id}{member}").choice(scores))

    (figures,) = diagnosed(scores, 8, shuffled).by_stratum.values()
    assert figures.pass_at_k > 0.7 and figures.chance == pytest.approx(figures.pass_at_1, abs=0.08)
    assert figures.kind == MISSING


def test_luck_is_the_chance_that_another_questions_answer_is_right(cases: list[Case]) -> None:
    scores = [case for case in cases if case.task == "curb-65"]
    rows = rows_of(scores, 4, lambda case, _: gold_response(case))
    pairs = [(a, b) for a, b in itertools.permutations(scores, 2)]
    expected = sum(a.truth["value"] == b.truth["value"] for a, b in pairs) / len(pairs)
    assert chance_of(rows, {case.id: case for case in scores}, True, 0) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(("samples", "chance"), [(8, 0.0), (8, 0.1), (8, 0.3), (12, 0.2), (4, 0.5), (1, 0.0)])
def test_as_many_right_samples_are_needed_as_luck_hardly_reaches(samples: int, chance: float) -> None:
    def at_least(r: int) -> float:
        return sum(math.comb(samples, i) * chance**i * (1 - chance) ** (samples - i) for i in range(r, samples + 1))

    needed = needed_samples(samples, chance)
    assert needed >= min(2, samples)
    assert needed == samples + 1 or at_least(needed) <= 0.05 + 1e-12
    assert needed <= 2 or at_least(needed - 1) > 0.05


def test_a_label_that_nearly_all_cases_have_is_known_only_where_answers_beat_luck() -> None:
    """With 4 samples and a chance level of 0.8, no number of right samples rules chance out."""
    assert needed_samples(4, 0.8) == 5
    assert kind_of(0.82, 0.75, 0.0, 0.8, decidable=False) == MISSING
    assert kind_of(0.95, 0.9, 0.0, 0.8, decidable=False) == SOLID
    assert kind_of(0.7, 0.6, 0.0, 0.5, decidable=False) == MISAPPLIED


def test_entropy_is_of_answers_and_not_of_their_wording(cases: list[Case]) -> None:
    same = rows_of(cases[:3], 4, lambda case, member: f"<think>way {member}</think>\n" + WRONG.rpartition("\n")[2])
    split = rows_of(cases[:3], 4, lambda case, member: WRONG if member % 2 else WRONG.replace("-7", "-8"))
    unparsed = rows_of(cases[:3], 4, lambda case, member: f"nothing {member}")
    assert entropy_of(same) == 0 and entropy_of(split) == 1 and entropy_of(unparsed) == 0


def test_the_interval_of_pass_1_is_over_patients_and_not_over_answers(cases: list[Case]) -> None:
    """All samples of a question alike: the width is that of the questions alone."""
    alike = diagnosed(cases, 8, lambda case, _: gold_response(case) if hash(case.id) % 2 else WRONG).overall
    assert alike is not None
    low, high = alike.pass_at_1_ci95
    assert high - low > 2 * 1.96 * math.sqrt(0.25 / 480)


def lift(value: float, lifts: bool) -> Lift:
    return Lift(lift=value, ci95=(value - 0.1, value + 0.1), questions=9, lifts=lifts)


def test_the_first_help_that_lifts_names_the_cause() -> None:
    assert cause_of({"entities": lift(0.0, False), "formula": lift(0.5, True), "both": lift(0.6, True)}) == "knowledge"
    assert cause_of({"tool": lift(0.5, True), "entities": lift(0.2, True)}) == "extraction"
    assert cause_of({"entities": lift(0.0, False)}) is None


@pytest.mark.parametrize(
    ("after", "lifts"),
    [([1.0] * 6, True), ([0.5, 0.0, 0.0, 0.0, 0.0, 0.0], False), ([0.05] * 6, False), ([1.0, 1.0], False)],
)
def test_a_lift_must_be_large_and_sure_and_of_more_than_two_questions(
    cases: list[Case], after: list[float], lifts: bool
) -> None:
    asked = [case for case in cases if case.task == "curb-65"][: len(after)]
    rates = {case.id: value for case, value in zip(asked, after, strict=True)}
    (found,) = _lifts(asked, dict.fromkeys(rates, 0.0), rates).values()
    assert found.lifts is lifts and -1 <= found.ci95[0] <= found.lift <= found.ci95[1] <= 1


def recipe(**changes: Any) -> Any:
    tree = {
        "data": {
            "train": {"synthetic": {"n": 70, "seed": 1, **SHORT}},
            "held_out": {"synthetic": {"n": 7, "seed": 2, **SHORT}},
        }
    }
    return parse_recipe({**tree, "model": {"tiny": {}}, **changes})


@pytest.fixture(scope="module")
def mixed(cases: list[Case]) -> Diagnosis:
    """CURB-65 half right, fluids never."""
    return diagnosed(
        cases, 8, lambda case, member: gold_response(case) if case.task == "curb-65" and member % 2 else WRONG
    )


def test_missing_strata_are_warmed_up_first_and_only_they(cases: list[Case], mixed: Diagnosis) -> None:
    plan = make_plan(recipe(), mixed, cases)
    assert plan.warm_up is not None
    assert plan.warm_up.strata == ("medcalc/physical/maintenance-fluids",)
    assert plan.arms == ("base", "sft", "sft_rlvr")
    assert plan.warm_up.traces_per_stratum == {"medcalc/physical/maintenance-fluids": 30}  # all there are
    assert plan.warm_up.rehearsal == 1 and plan.warm_up.rehearse == "worked"
    bare = [
        case if case.task != "curb-65" else dataclasses.replace(case, rationale=None, provenance={}) for case in cases
    ]
    own = make_plan(recipe(), mixed, bare).warm_up
    assert own is not None and own.rehearse == "own"


def test_rlvr_alone_is_advised_where_nothing_is_missing(cases: list[Case]) -> None:
    half = diagnosed(cases, 8, lambda case, member: gold_response(case) if member % 2 else WRONG)
    plan = make_plan(recipe(), half, cases)
    assert plan.warm_up is None and plan.arms == ("base", "rlvr")


@pytest.mark.parametrize(
    ("finish", "said"), [("length", "raise decoding.max_new_tokens"), ("stop", "teaches the form")]
)
def test_a_pilot_without_an_answer_in_the_form_asked_for_says_why(cases: list[Case], finish: str, said: str) -> None:
    rows = [dataclasses.replace(row, finish_reason=finish) for row in rows_of(cases, 4, lambda *_: "hm")]
    found = diagnose(rows, 4, {case.id: case for case in cases})
    sentences = make_plan(recipe(), found, cases).because
    assert sentences[-1].startswith("100% of the answers are not in the form asked for") and said in sentences[-1]
    solved = diagnosed(cases, 4, lambda case, _member: gold_response(case))
    assert not any("form" in sentence for sentence in make_plan(recipe(), solved, cases).because)


def test_a_stratum_without_worked_answers_is_named_and_not_promised(cases: list[Case], mixed: Diagnosis) -> None:
    bare = [dataclasses.replace(case, rationale=None, provenance={}) for case in cases]
    plan = make_plan(recipe(), mixed, bare)
    assert plan.warm_up is None and plan.without_worked_answers == ("medcalc/physical/maintenance-fluids",)
    assert any("no worked answer" in sentence for sentence in plan.because)


def test_the_plan_is_followed_under_auto_alone_and_what_the_recipe_says_wins(
    cases: list[Case], mixed: Diagnosis
) -> None:
    for chosen, arms in (
        (recipe(), ["base", "rlvr", "sft", "sft_rlvr"]),
        (recipe(stages="auto"), ["base", "sft", "sft_rlvr"]),
        (recipe(stages="auto", arms=["base", "rlvr"]), ["base", "rlvr"]),
    ):
        assert planned(chosen, make_plan(chosen, mixed, cases)).arms == arms
    own = recipe(stages="auto", warmup={"strata": "all", "traces": "calculators"})
    assert planned(own, make_plan(own, mixed, cases)).warmup.strata == "all"
    assert planned(own, make_plan(own, mixed, cases)).warmup.traces == "calculators"
    assert planned(own, make_plan(own, mixed, cases)).warmup.rehearsal == 0  # no stratum is left to rehearse
    kept = recipe(stages="auto", warmup={"rehearsal": 0.25, "strata": "missing"})
    assert planned(kept, make_plan(kept, mixed, cases)).warmup.rehearsal == 0.25


def figures(before: float, unsettled: float, chance: float = 0.0, questions: int = 20) -> PilotFigures:
    return PilotFigures.model_construct(
        pass_at_1=before, unsettled=Unsettled(questions=questions, pass_at_1=unsettled, chance=chance), questions=20
    )


def test_nothing_is_expected_where_nothing_is_right_and_never_more_than_there_is_room_for() -> None:
    none, much = figures(0.0, 0.0), figures(0.4, 0.4)
    assert expected_gain(none).gain == 0
    assert 0.3 < expected_gain(much).gain <= 0.6
    assert expected_gain(much).low < expected_gain(much).gain <= expected_gain(much).high <= 0.6


def test_nothing_is_expected_of_luck_nor_of_questions_that_are_solved_anyway() -> None:
    assert expected_gain(figures(0.5, 0.5, chance=0.5)).gain == pytest.approx(0)
    assert expected_gain(figures(0.1, 0.0, questions=18)).gain == pytest.approx(0)  # healthy patients' scores of 0
    rising = [expected_gain(figures(share, share)).gain / (1 - share) for share in (0.0, 0.005, 0.02, 0.1, 0.5)]
    assert rising == sorted(rising) and rising[1] < rising[-1] / 2


def test_what_most_samples_solve_the_others_are_expected_to_solve_too() -> None:
    assert expected_gain(figures(0.9, 0.0, questions=0)).gain > 0.05


def test_questions_that_most_samples_solve_are_settled(cases: list[Case]) -> None:
    first = {case.id for case in cases[::3]}
    found = diagnosed(
        cases, 4, lambda case, member: gold_response(case) if member < (3 if case.id in first else 1) else WRONG
    ).overall
    assert found is not None and found.unsettled.questions == len(cases) - len(first)
    assert found.unsettled.pass_at_1 == pytest.approx(1 / 4)
    once = diagnosed(cases, 1, lambda case, member: gold_response(case) if case.id in first else WRONG).overall
    assert once is not None and once.unsettled.questions == len(cases)  # one sample settles nothing


def test_the_luck_of_unsettled_questions_is_their_own() -> None:
    """Who always writes 0 is right about healthy patients, by knowledge or not, and by chance about
    nobody else."""
    asked = [
        dataclasses.replace(case, id=str(index), truth={"kind": "integer", "value": index % 4})
        for index, case in enumerate(SCORES)
    ]
    found = diagnosed(asked, 8, lambda *_: '<think>none</think>\n<answer>{"answer": 0}</answer>').overall
    assert found is not None and found.chance > 0.15
    assert found.unsettled.chance == 0 and found.unsettled.questions == 30


def test_gains_are_compared_on_sampled_answers_and_r2_is_of_their_variance(mixed: Diagnosis) -> None:
    names = list(mixed.by_stratum)
    expected = ExpectedGains(
        rlvr={name: ExpectedGain(gain=gain, low=0, high=1) for name, gain in zip(names, (0.5, 0.1), strict=True)}
    )
    plan = Plan.model_construct(expected=expected)

    def arm(*accuracies: float) -> dict[str, Any]:
        strata = {name: figure(value) for name, value in zip(names, accuracies, strict=True)}
        return {**figure(0.0), "unparsed": 0, "cost": {"tokens": 0, "prompt_tokens": 0}, "by_stratum": strata}

    def figure(value: float) -> dict[str, Any]:
        return {"n": 100, "correct": 0, "accuracy": value, "ci95": [0, 1], "groups": 100, "interval": "wilson"}

    def results(headline: dict[str, Any], **views: Any) -> Results:
        about = {"schema_version": 1, "decoding": "greedy", "scorer": "ehrmind", "held_out_scorings": [], "seconds": {}}
        return Results.model_validate({**about, "arms": headline, "pairs": {}, **views})

    sampled = {"arms": {"base": arm(0.4, 0.0), "rlvr": arm(0.8, 0.0)}, "pairs": {}}
    gains = compare_gains(plan, mixed, results({}, sampled=sampled))
    assert gains is not None and gains.decoding == "sampled"
    assert [row.obtained for row in gains.by_stratum.values()] == pytest.approx([0.4, 0.0])
    assert gains.r2 == pytest.approx(1 - (0.1**2 + 0.1**2) / (2 * 0.2**2))
    assert gains.r2_misapplied is None  # one stratum has no variance
    assert compare_gains(plan, mixed, results({"base": arm(0, 0)})) is None


def test_trials_are_diagnosed_too() -> None:
    pairs = synthetic_trials(60, seed=2, split="train")
    found = diagnosed(pairs, 4, lambda case, _: gold_response(case))
    assert {figures.kind for figures in found.by_stratum.values()} == {SOLID}
