"""Evaluation over a scripted engine: repeated samples, subgroups, seen tasks, contamination, what
is forgotten, several seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ehrmind.cli.app import app
from ehrmind.config import Recipe
from ehrmind.data.synthetic.general import KINDS, synthetic_general
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.engines.answers import Answer, AnswerFile
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.prompts import messages
from ehrmind.runs import Run
from ehrmind.runs.index import list_runs
from ehrmind.runs.purge import purge
from ehrmind.runs.records import ConfidenceBin
from ehrmind.stages.context import StageContext
from ehrmind.stages.evaluation.comparison import Outcome, comparison, measures_by_task
from ehrmind.stages.evaluation.contamination import check_contamination
from ehrmind.stages.evaluation.repeated import repeated_figures, vote
from ehrmind.stages.evaluation.results import gate
from ehrmind.stages.evaluation.subgroups import age_band, sex
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.stages.seeds import run_seeds
from ehrmind.types import Case, InputError
from ehrmind.verify.audit import check_cases
from tests.evaluated_run import opened, plan, recipe, unsteady
from tests.rollouts import rollout_row


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    ScriptedEngine(plan).save(folder)
    return folder


def results(run: Run) -> Any:
    return json.loads((run.path / "results.json").read_text())


def test_repeated_samples_give_curves_and_what_agreement_says(base: Path, tmp_path: Path) -> None:
    done = run_pipeline(recipe(evaluate={"repeats": 4}), tmp_path / "run", open_engine=opened, locate=lambda _: base)
    arms = results(done)["arms"]
    before, after = arms["base"]["repeated"], arms["rlvr"]["repeated"]
    assert (
        before["samples"] == 4 and before["questions"] == 40 and before["unparsed"] == 20
    )  # one in four where it guesses
    assert [(point["k"], point["value"]) for point in before["pass"]] == [
        (1, 0.25),
        (2, pytest.approx(0.5 * 5 / 6)),
        (4, 0.5),
    ]
    # two samples right and two wrong: the majority is a coin's, whatever k
    assert [point["value"] for point in before["majority"]] == pytest.approx([0.25, 0.25, 0.25])
    assert [point["value"] for point in after["majority"]] == [0.5, 0.5, 0.5]
    # fluids: agreement 2 of 4 and right by half; the others agree on a wrong answer in 3 of 4
    assert before["calibration"]["bins"] == [
        {"confidence": 0.5, "right": 0.5, "n": 20},
        {"confidence": 0.75, "right": 0.0, "n": 20},
    ]
    assert before["calibration"]["ece"] == pytest.approx(0.375)
    assert [(point["coverage"], point["accuracy"]) for point in after["coverage"]["points"]] == [(0.5, 1.0), (1.0, 0.5)]
    assert before["coverage"]["aurc"] > after["coverage"]["aurc"]
    assert {scoring.decoding for scoring in done.scorings()} == {"greedy", "sampled", "repeated"}
    plain = results(run_pipeline(recipe(), tmp_path / "plain", open_engine=opened, locate=lambda _: base))
    assert not any("repeated" in row for row in plain["arms"].values())


def test_repeated_samples_go_on_after_an_interruption(base: Path, tmp_path: Path) -> None:
    chosen = recipe(arms=["base"], evaluate={"repeats": 4, "decodings": ["greedy"]}, sampler_rows=40)
    whole, calls = run_pipeline(chosen, tmp_path / "whole", open_engine=opened, locate=lambda _: base), 0

    class Broken(ScriptedEngine):
        def sample(self, *arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 5:
                raise KeyboardInterrupt
            return super().sample(*arguments)

    with pytest.raises(KeyboardInterrupt):
        run_pipeline(
            chosen, tmp_path / "run", open_engine=lambda _, folder: Broken.load(folder, plan), locate=lambda _: base
        )
    again = run_pipeline(chosen, tmp_path / "run", resume=True, open_engine=opened, locate=lambda _: base)
    ours, theirs = (results(run)["arms"]["base"] for run in (again, whole))
    assert ours["repeated"] == theirs["repeated"] and again.read_rollouts("repeated-base").equals(
        whole.read_rollouts("repeated-base")
    )


def test_samples_that_cannot_differ_are_refused() -> None:
    with pytest.raises(InputError, match=r"evaluate\.repeats needs answers that differ"):
        recipe(evaluate={"repeats": 4}, decoding={"temperature": 0.0})


def test_votes_of_numbers_count_as_one_in_three_digits() -> None:
    assert vote(25.21) == vote(25.2) != vote(25.3) and vote(3) != vote(4) and vote([1, 2]) == "[1, 2]"


def test_samples_without_any_answer_have_no_confidence_and_are_wrong() -> None:
    case = synthetic_general(1, 0, "held_out")[0]
    rows = [rollout_row(case=case.id, text="nothing", well_formed=False, correct=False) for _ in range(3)]
    found = repeated_figures(rows, {case.id: case}, think=True)
    assert found.calibration.bins == (ConfidenceBin(confidence=0.0, right=0.0, n=1),)
    assert [point.value for point in found.majority] == [0.0, 0.0, 0.0] and found.unparsed == 3


def test_tasks_that_train_has_are_apart_from_those_it_has_not(base: Path, tmp_path: Path) -> None:
    arms = results(run_pipeline(recipe(), tmp_path / "run", open_engine=opened, locate=lambda _: base))["arms"]
    seen = arms["rlvr"]["by_seen"]
    assert (seen["seen"]["n"], seen["seen"]["accuracy"]) == (20, 1.0) and (
        seen["unseen"]["n"],
        seen["unseen"]["accuracy"],
    ) == (20, 0.0)
    assert set(arms["rlvr"]["by_category"]) == {"medcalc/physical", "medcalc/diagnosis"}


def test_subgroups_by_age_and_sex_hold_every_case_and_unknown_is_one_of_them(base: Path, tmp_path: Path) -> None:
    data = {**recipe().data.model_dump(mode="json", exclude={"source"})}
    data["held_out"] = {"synthetic": {"family": "general", "n": 14}}
    for chosen, known in ((recipe(), True), (recipe(data=data), False)):
        groups = results(run_pipeline(chosen, tmp_path / str(known), open_engine=opened, locate=lambda _: base))[
            "arms"
        ]["base"]["subgroups"]
        for name in ("age", "sex"):
            assert sum(row["n"] for row in groups[name].values()) == (40 if known else 14)
            assert ("unknown" in groups[name]) is not known


def test_age_bands_have_no_gap() -> None:
    case = synthetic_general(1, 0, "held_out")[0]
    bands = [
        age_band(replace(case, provenance={"age": age})) for age in (0.1, 17.99, 18, 39.9, 40, 64.9, 65, 79.9, 80, 104)
    ]
    assert bands == ["under 18"] * 2 + ["18 to 39"] * 2 + ["40 to 64"] * 2 + ["65 to 79"] * 2 + ["80 and over"] * 2
    assert age_band(case) == sex(case) == "unknown"


def judged(cases: list[Case], right: Callable[[int], bool]) -> list[Outcome]:
    blank: dict[str, Any] = {"answer": 0, "probabilities": None, "well_formed": True, "tokens": 1, "prompt_tokens": 1}
    return [
        Outcome(case=case, stratum=case.stratum, ehrmind=right(place), benchmark=False, **blank)
        for place, case in enumerate(cases)
    ]


def test_several_questions_of_a_patient_make_wider_intervals_and_say_so() -> None:
    cases = synthetic_trials(200, 0, "held_out", difficulty="easy")  # five to a patient
    alike = comparison({"base": judged(cases, lambda place: place // 5 % 2 == 0)}, "ehrmind").arms["base"]
    alone = comparison(
        {"base": judged([replace(case, group=case.id) for case in cases], lambda place: place // 5 % 2 == 0)}, "ehrmind"
    )
    low, high = alike.ci95
    assert alike.groups == 40 and alike.interval == "bootstrap over groups"
    assert alone.arms["base"].interval == "wilson"
    assert high - low > 2 * (alone.arms["base"].ci95[1] - alone.arms["base"].ci95[0])


def test_pairs_are_adjusted_for_their_number_and_matched_by_case() -> None:
    cases = synthetic_trials(200, 0, "held_out", difficulty="easy")
    skill = {"base": 3, "rlvr": 4, "sft": 5}
    found = {arm: judged(cases, lambda place, of=of: place % 7 < of) for arm, of in skill.items()}  # type: ignore[misc]
    pairs = comparison(found, "ehrmind").pairs
    shuffled = comparison({**found, "sft": found["sft"][::-1]}, "ehrmind").pairs
    assert {name: pair.p for name, pair in pairs.items()} == {name: pair.p for name, pair in shuffled.items()}
    smallest = min(pair.p for pair in pairs.values())
    assert min(pair.p_holm or 0.0 for pair in pairs.values()) == pytest.approx(min(1.0, 3 * smallest))
    assert all(pair.p <= (pair.p_bh or 0.0) <= (pair.p_holm or 0.0) for pair in pairs.values())


def test_held_out_text_that_train_has_too_is_counted_and_named_where_records_may_be(base: Path, tmp_path: Path) -> None:
    done = run_pipeline(recipe(arms=["base"]), tmp_path / "run", open_engine=opened, locate=lambda _: base)
    found = json.loads((done.path / "contamination.json").read_text())["held_out"]
    assert found == results(done)["contamination"]["held_out"] and found["cases"] == 40 and found["words"] == 13
    assert set(found["against"]) == {"train", "tuning"}
    rows = json.loads((done.protected / "contamination.json").read_text())["held_out"]
    assert {row["case"] for row in rows if row["with"] == "train"} <= {
        case.id for case in done.load_cases()["held_out"]
    }
    assert len([row for row in rows if row["with"] == "train"]) == found["against"]["train"]["any"]


def test_a_teachers_worked_answers_are_among_what_is_learned_from(base: Path, tmp_path: Path) -> None:
    done = run_pipeline(recipe(arms=["base"]), tmp_path / "run", open_engine=opened, locate=lambda _: base)
    splits = done.load_cases()
    context = StageContext(done, recipe(arms=["base"]), splits)
    quoted = splits["held_out"][0].fields["note"]
    AnswerFile(done.answers("teacher", "warmup")).add("a hash", Answer(text=f"<think>{quoted}</think>"))
    found = check_contamination(context)["held_out"].against["teacher"]
    assert found.half == 1 and found.any >= 1


def test_general_questions_are_right_by_their_gold_answers_and_never_by_a_corruption() -> None:
    cases = synthetic_general(140, 5, "held_out")
    assert {case.task for case in cases} == set(KINDS)
    assert not check_cases(cases).failures
    assert synthetic_general(140, 5, "held_out") == cases and synthetic_general(7, 6, "held_out")[0] != cases[0]
    assert all(case.fields["question"] in messages(case)[-1].content for case in cases)
    with pytest.raises(InputError, match="not a kind of general"):
        synthetic_general(1, 0, "held_out", ["poems"])


def test_an_arm_that_forgets_general_questions_is_told_from_one_that_keeps_them(base: Path, tmp_path: Path) -> None:
    chosen = recipe(evaluate={"general": {"n": 70, "gate": True}})
    done = run_pipeline(chosen, tmp_path / "run", open_engine=opened, locate=lambda _: base)
    found = results(done)["forgetting"]
    assert (
        found["n"] == 70
        and found["base"] == 1.0
        and found["arms"]["rlvr"]["lost"]
        and not found["arms"]["rlvr"]["kept"]
    )
    assert "rlvr (-" in (gate(done) or "") and "70 general questions" in (gate(done) or "")
    lenient = run_pipeline(
        recipe(evaluate={"general": {"n": 70}}), tmp_path / "lenient", open_engine=opened, locate=lambda _: base
    )
    assert gate(lenient) is None and not results(lenient)["forgetting"]["arms"]["rlvr"]["kept"]
    assert gate(run_pipeline(recipe(), tmp_path / "none", open_engine=opened, locate=lambda _: base)) is None


def test_too_few_questions_cannot_show_that_anything_was_kept(base: Path, tmp_path: Path) -> None:
    steps = {
        "steps": 2,
        "questions_per_step": 4,
        "samples": 4,
        "tuning_every": 2,
        "checkpoint_every": 2,
    }  # too few to change an answer
    for n, kept in ((14, False), (70, True)):
        chosen = recipe(rlvr=steps, evaluate={"general": {"n": n, "margin": 0.06}})
        found = results(run_pipeline(chosen, tmp_path / str(n), open_engine=opened, locate=lambda _: base))[
            "forgetting"
        ]["arms"]["rlvr"]
        assert found["difference"] == 0.0 and found["kept"] is kept and not found["lost"]


def test_general_questions_may_be_anybodys_table(base: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(
        "question,answer\n" + "".join(f"What is {n} plus 1?,{n + 1}\n" for n in range(20))
    )
    source = {
        "table": {
            "path": str(tmp_path / "mine.csv"),
            "kind": "integer",
            "question": "question",
            "answer": "answer",
            "shares": [0, 0, 1],
        }
    }
    found = results(
        run_pipeline(
            recipe(evaluate={"general": {"source": source}}),
            tmp_path / "run",
            open_engine=opened,
            locate=lambda _: base,
        )
    )
    assert found["forgetting"]["n"] == 20 == found["transfer"]["general"]["arms"]["base"]["n"]


def test_a_place_named_general_is_not_given_twice() -> None:
    data = recipe().data.model_dump(mode="json") | {"transfer": {"general": {"synthetic": {"n": 5}}}}
    with pytest.raises(InputError, match=r"data\.transfer\.general has the name"):
        recipe(data=data, evaluate={"general": {}})


def test_the_gate_fails_the_command_with_a_sentence(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = partial(run_seeds, open_engine=opened, locate=lambda _: base)
    monkeypatch.setattr("ehrmind.stages.seeds.run_seeds", scripted)
    asked = recipe(evaluate={"general": {"n": 70, "gate": True}}).model_dump(mode="json")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(asked))
    told = CliRunner().invoke(app, ["run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")])
    assert told.exit_code == 1 and "Forgetting gate: not shown to keep within 5 points" in told.stderr
    assert (tmp_path / "run" / "report.html").is_file()


def test_several_seeds_are_runs_of_their_own_and_pooled(base: Path, tmp_path: Path) -> None:
    chosen = recipe(seed=7, seeds=3, evaluate={"general": {"n": 14}})
    calls = 0

    def open_engine(_: Recipe, folder: Path) -> ScriptedEngine:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return ScriptedEngine.load(folder, unsteady)

    with pytest.raises(KeyboardInterrupt):
        run_seeds(chosen, tmp_path / "run", open_engine=open_engine, locate=lambda _: base)
    done = run_seeds(chosen, tmp_path / "run", resume=True, open_engine=open_engine, locate=lambda _: base)
    parts = done.seeds()
    assert [part.path.name for part in parts] == ["7", "8", "9"]
    singles, pooled = [results(part) for part in parts], results(done)
    assert pooled["seeds"] == [7, 8, 9]
    for arm, row in pooled["arms"].items():
        assert row["per_seed"] == [single["arms"][arm]["accuracy"] for single in singles]
        assert row["accuracy"] == pytest.approx(sum(row["per_seed"]) / 3) and row["n"] == 120 and row["groups"] == 40
        assert row["ci95"][0] <= min(row["per_seed"]) or row["sd"] > 0 or row["ci95"][0] < row["accuracy"]
    pair = pooled["pairs"]["rlvr-base"]
    assert pair["difference"] == pytest.approx(
        sum(single["pairs"]["rlvr-base"]["difference"] for single in singles) / 3
    )
    assert pair["interval"] == "seeds and groups" and pair["p_holm"] == pair["p"] and len(pair["per_seed"]) == 3
    assert pooled["sampled"]["arms"]["base"]["sd"] > 0, "seeds sample other answers"
    assert pooled["forgetting"]["n"] == 14 and set(pooled["transfer"]) == {"general"}
    assert len(pooled["held_out_scorings"]) == sum(len(single["held_out_scorings"]) for single in singles)
    synthetic = [[case.id for case in part.load_cases()["held_out"]] for part in parts]
    assert synthetic[0] == synthetic[1] == synthetic[2], "made-up data keep their own seeds"
    before = calls
    run_seeds(chosen, tmp_path / "run", resume=True, open_engine=open_engine, locate=lambda _: base)
    assert calls == before
    with pytest.raises(InputError, match="seeds"):
        run_seeds(
            recipe(seed=7, seeds=2, evaluate={"general": {"n": 14}}),
            tmp_path / "run",
            resume=True,
            open_engine=open_engine,
            locate=lambda _: base,
        )
    assert [summary.finished for summary in list_runs(tmp_path)] == [True] and list_runs(tmp_path)[
        0
    ].protected_bytes > 0
    assert purge(done.path) > 0 and not any(part.protected.exists() for part in parts)


def test_answers_that_are_all_alike_in_every_seed_leave_doubt() -> None:
    cases = synthetic_trials(30, 0, "held_out", difficulty="easy")
    base, better = (
        [replace(row, seed=seed) for seed in (1, 2, 3) for row in judged(cases, right)]
        for right in (lambda _: False, lambda place: place == 0)
    )
    found = comparison({"base": base, "rlvr": better}, "ehrmind")
    low, high = found.arms["base"].ci95
    assert low == 0.0 and high > 0.3, "six patients, whatever the number of seeds"
    low, high = found.pairs["rlvr-base"].ci95
    assert low < 0 < high and found.pairs["rlvr-base"].difference == pytest.approx(1 / 30)


def test_a_pool_of_seeds_ranks_trials_seed_by_seed() -> None:
    cases = synthetic_trials(60, 0, "held_out", difficulty="easy")
    seeds = [
        [replace(row, seed=seed, answer=grade(row.case.truth["value"])) for row in judged(cases, lambda _: True)]
        for seed, grade in ((1, lambda value: value), (2, lambda value: 2 - value))
    ]
    best, worst, pooled = (
        measures_by_task(rows)["trials/eligibility"].ranking for rows in (*seeds, [*seeds[0], *seeds[1]])
    )
    assert best is not None and worst is not None and pooled is not None
    assert best.ndcg_at_10 == 1 > worst.ndcg_at_10 and pooled.topics == best.topics
    assert pooled.ndcg_at_10 == pytest.approx((best.ndcg_at_10 + worst.ndcg_at_10) / 2)


def test_a_pool_of_seeds_measures_risks_seed_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ehrmind.measures.RESAMPLES", 100)
    truth = {"kind": "label", "labels": ["no", "yes"]}
    cases = [
        Case(f"c{n}", "ehr", "x", "ehr/x", "held_out", f"s{n}", {}, {**truth, "value": int(n >= 30)}) for n in range(60)
    ]

    def seeded(seed: int, shift: float, swaps: int) -> list[Outcome]:
        """Risks that rank the cases but for some, on a scale of their own."""
        risks = [shift + 0.4 * (n + (30 if n < swaps else 0)) / 90 for n in range(60)]
        rows = judged(cases, lambda place: place < 30)
        return [replace(row, seed=seed, probabilities=[1 - risk, risk]) for row, risk in zip(rows, risks, strict=True)]

    seeds = [seeded(1, 0.0, 0), seeded(2, 0.5, 10)]
    first, second, pooled = (measures_by_task(rows)["ehr/x"].risk for rows in (*seeds, [*seeds[0], *seeds[1]]))
    assert first is not None and second is not None and pooled is not None and second.auroc is not None
    assert first.auroc == 1 > second.auroc and pooled.auroc == pytest.approx((1 + second.auroc) / 2)
    low, high = pooled.ci95["auroc"]
    assert low < second.ci95["auroc"][0] and high == 1.0  # other seeds count too
    assert pooled.n == 120 and pooled.subjects == 60


def test_one_seed_is_an_ordinary_run(base: Path, tmp_path: Path) -> None:
    done = run_seeds(recipe(), tmp_path / "run", open_engine=opened, locate=lambda _: base)
    assert done.seeds() == [] and "seeds" not in results(done) and (done.path / "pilot.json").is_file()
