"""The options of RLVR in a run: what they change, what they leave alone, and that a broken run
resumes to the same.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from ehrmind.config import Recipe, parse_recipe
from ehrmind.data import save_cases
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.engines.scripted import Plan, ScriptedEngine
from ehrmind.runs import Run
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.stages.rlvr.rewards import class_weights, training_rewards, with_advantages
from ehrmind.stages.rlvr.selection import out_of_patience, standard_error
from ehrmind.types import Case, Completion, Group, InputError, Prompt, Segment
from ehrmind.verify.judge import judge
from tests.medcalc_cases import SHORT

STEPS = {"steps": 6, "questions_per_step": 6, "samples": 4, "tuning_every": 2, "checkpoint_every": 2}
WRONG = '<think>guess</think>\n<answer>{"answer": -7}</answer>'


def luck(prompt: str, key: int, member: int, skill: int) -> str:
    """Right about weights by chance, the more skill the more often; an eligible trial is called so
    half the time."""
    draw = random.Random(f"{key}:{member}").random()
    weight = re.search(r"weight ([\d.]+) kg", prompt)
    if "trial" in prompt.lower() and weight is None:
        return f'<think>look</think>\n<answer>{{"answer": "{"eligible" if draw < 0.5 else "excluded"}"}}</answer>'
    if weight is None or "maintenance" not in prompt or draw > 0.2 + 0.1 * skill:
        return WRONG
    kilograms = float(weight.group(1))
    fluids = 4 * kilograms if kilograms <= 10 else 20 + 2 * kilograms if kilograms <= 20 else 40 + kilograms
    return f'<think>sum</think>\n<answer>{{"answer": {round(fluids, 1)}}}</answer>'


def recipe(folder: Path, tree: dict[str, Any] | None = None, **rlvr: Any) -> Recipe:
    """Calculations and trials side by side, from files of cases."""
    for split, seed, n in (("train", 1, 70), ("tuning", 2, 14), ("held_out", 3, 14)):
        save_cases(synthetic_cases(n, seed, split, **SHORT), folder / f"medcalc-{split}.parquet")  # type: ignore[arg-type]
        save_cases(synthetic_trials(n // 2, seed, split, difficulty="easy"), folder / f"trials-{split}.parquet")  # type: ignore[arg-type]
    data = {
        split: {"cases": [str(folder / f"{family}-{split}.parquet") for family in ("medcalc", "trials")]}
        for split in ("train", "tuning", "held_out")
    }
    whole = {
        "data": data,
        "model": {"name": "scripted"},
        "pilot": {"questions": 40, "samples": 4},
        "arms": ["base", "rlvr"],
    }
    return parse_recipe({**whole, "rlvr": {**STEPS, **rlvr}, **(tree or {})})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ScriptedEngine(luck).save(tmp_path / "base")
    return tmp_path


def run(out: Path, chosen: Recipe, plan: Plan = luck, **options: Any) -> Run:
    return run_pipeline(
        chosen,
        out,
        open_engine=lambda _, model: ScriptedEngine.load(model, plan),
        locate=lambda _: out.parent / "base",
        **options,
    )


def rollouts(done: Run) -> pl.DataFrame:
    return pl.DataFrame(done.read_rollouts("rlvr-rlvr"))


def steady(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what depends on the clock."""
    return [
        {key: value for key, value in row.items() if key not in ("time", "tokens_per_second", "seconds")}
        for row in rows
    ]


def lines(run: Run) -> list[dict[str, Any]]:
    return [row.to_dict() for row in run.metrics()]


EVERYTHING = {
    "curriculum": "pass_rate",
    "mix": {"medcalc": 0.7, "trials": 0.3},
    "dynamic_sampling": 1,
    "class_weights": "balanced",
    "advantage": "rloo",
    "patience": 2,
    "steps": 14,
}


@pytest.mark.parametrize("failing_call", [6, 11, 19, 27])
def test_a_run_with_every_option_that_breaks_anywhere_resumes_to_the_same(folder: Path, failing_call: int) -> None:
    chosen = recipe(folder, **EVERYTHING)
    stages = ("pilot", "rlvr")
    whole, calls = run(folder / "whole", chosen, stages=stages), 0

    class Broken(ScriptedEngine):
        def sample(self, *arguments: object) -> object:  # type: ignore[override]
            nonlocal calls
            calls += 1
            if calls == failing_call:
                raise KeyboardInterrupt
            return super().sample(*arguments)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        run_pipeline(
            chosen,
            folder / "run",
            stages=stages,
            open_engine=lambda _, model: Broken.load(model, luck),
            locate=lambda _: folder / "base",
        )
    again = run(folder / "run", chosen, stages=stages, resume=True)
    assert steady(lines(again)) == steady(lines(whole)) and again.alarms() == whole.alarms()
    assert rollouts(again).equals(rollouts(whole))
    assert steady([again.done("rlvr-rlvr") or {}]) == steady([whole.done("rlvr-rlvr") or {}])
    assert (again.model("rlvr") / "config.json").read_bytes() == (whole.model("rlvr") / "config.json").read_bytes()


def test_by_pass_rate_the_questions_that_teach_are_asked_more_often_from_the_first_step(folder: Path) -> None:
    shares = []
    for name, settings in (("uniform", {}), ("pass_rate", {"curriculum": "pass_rate"})):
        done = run(folder / name, recipe(folder, **settings), stages=("pilot", "rlvr"))
        facts = done.done("rlvr-rlvr") or {}
        asked = facts["asked_by_stratum"]
        assert sum(asked.values()) == 36 == facts["asked"]["all"]
        teaching = sum(
            count for stratum, count in asked.items() if stratum.startswith("trials/") or "maintenance" in stratum
        )
        silent = [row.values["zero_advantage_groups"] for row in done.metrics() if row.stage == "rlvr-rlvr"]
        shares.append((teaching, sum(silent)))
    assert shares[1][0] > 1.3 * shares[0][0] and shares[1][1] < shares[0][1]


def test_after_a_warm_up_the_pilots_rates_no_longer_choose(folder: Path) -> None:
    """Before it calculations are hopeless and trials are open; what holds after it is found out
    from there."""
    settings = {"curriculum": "pass_rate", "steps": 1, "questions_per_step": 40}
    chosen = recipe(folder, {"arms": ["rlvr", "sft_rlvr"], "warmup": {"epochs": 1}}, **settings)
    done = run(folder / "run", chosen, lambda *asked: luck(*asked[:3], -10), stages=("pilot", "warmup", "rlvr"))
    trials = []
    for arm in ("rlvr", "sft_rlvr"):
        asked = (done.done(f"rlvr-{arm}") or {})["asked_by_stratum"]
        trials.append(sum(count for stratum, count in asked.items() if stratum.startswith("trials/")))
    assert trials[0] > trials[1] + 3 > 3  # the same draws with the same weights would be equal


def test_a_mix_gives_every_step_its_families_and_refilling_keeps_them(folder: Path) -> None:
    for name, settings in (("plain", {}), ("resampled", {"dynamic_sampling": 2})):
        done = run(folder / name, recipe(folder, mix={"medcalc": 0.5, "trials": 0.5}, **settings), stages=("rlvr",))
        counts = rollouts(done).group_by("step", pl.col("stratum").str.split("/").list.first().alias("family")).len()
        assert set(counts["len"].to_list()) == {3 * 4}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mix": {"ehr": 1.0}}, r"rlvr\.mix .* 'ehr'"),
        ({"class_weights": "balanced", "advantage": "rloo"}, "answers that are labels"),
    ],
)
def test_what_the_data_do_not_have_is_refused_before_anything_is_sampled(
    folder: Path, settings: dict[str, Any], said: str
) -> None:
    synthetic = {
        split: {"synthetic": {"n": 14, "seed": seed, **SHORT}}
        for seed, split in enumerate(("train", "tuning", "held_out"))
    }
    with pytest.raises(InputError, match=said):
        run(folder / "run", recipe(folder, {"data": synthetic}, **settings))
    assert Run(folder / "run").done("pilot") is None


# ---- class weights


def labelled(count: int, value: int) -> list[Case]:
    truth = {"kind": "label", "value": value, "labels": ["no", "yes"]}
    return [
        Case(f"{value}-{n}", "ehr", "guo_icu", "ehr/outcome/guo_icu", "train", f"{value}-{n}", {"history": "x"}, truth)
        for n in range(count)
    ]


def answered(case: Case, *words: str) -> Group:
    texts = [f'<think>x</think>\n<answer>{{"answer": "{word}"}}</answer>' if word else "nothing" for word in words]
    completions = [Completion((Segment("assistant", (1,), (0.0,)),), "stop", text) for text in texts]
    return Group(case, Prompt(()), completions, [judge(case, text) for text in texts])


def test_class_weights_are_half_of_n_over_the_class_as_in_the_papers_release_and_of_train_alone() -> None:
    train = [*labelled(90, 0), *labelled(10, 1), *synthetic_cases(3, 0, "train", **SHORT)]
    weights = class_weights(train)
    assert weights == {"ehr/guo_icu": {"no": pytest.approx(0.5 * 100 / 90), "yes": pytest.approx(0.5 * 100 / 10)}}


def test_a_weight_is_on_the_outcome_of_the_training_reward_and_on_nothing_else() -> None:
    weights = {"ehr/guo_icu": {"no": 0.5, "yes": 5.0}}
    rare, common = answered(labelled(1, 1)[0], "yes", "no", ""), answered(labelled(1, 0)[0], "no", "yes", "")
    assert training_rewards(rare, weights) == pytest.approx([5.1, 0.0, -2.0])
    assert training_rewards(common, weights) == pytest.approx([0.6, 0.0, -2.0])
    assert (
        training_rewards(rare, {}) == pytest.approx([1.1, 0.0, -2.0]) == [verdict.reward for verdict in rare.verdicts]
    )
    settings = recipe_of(class_weights="balanced", advantage="dr_grpo").rlvr
    heavy, light = with_advantages(
        [answered(labelled(1, 1)[0], "yes", "no"), answered(labelled(1, 0)[0], "no", "yes")], settings, weights
    )
    assert heavy.advantages[0] == pytest.approx(5.1 / 2) and light.advantages[0] == pytest.approx(0.6 / 2)


def recipe_of(**rlvr: Any) -> Recipe:
    synthetic = {"synthetic": {"n": 10}}
    return parse_recipe({"data": {"train": synthetic, "held_out": synthetic}, "model": {"tiny": {}}, "rlvr": rlvr})


def test_weights_that_an_advantage_would_undo_are_refused() -> None:
    with pytest.raises(InputError, match=r"class_weights with advantage=grpo would be undone.*use dr_grpo or rloo"):
        recipe_of(class_weights="balanced")
    rewards_PG = torch.tensor([[1.0, 0.0, 0.0]])
    from ehrmind.rl.advantages import advantages

    torch.testing.assert_close(advantages(rewards_PG, "grpo"), advantages(3 * rewards_PG, "grpo"), rtol=1e-3, atol=1e-3)


def test_evaluation_and_rollouts_know_no_class_weights(folder: Path) -> None:
    done = run(folder / "run", recipe(folder, class_weights="balanced", advantage="rloo", questions_per_step=20))
    rows = pl.read_parquet(done.rollouts / "*.parquet").filter(pl.col("reward").is_in([1.1, 0.0, -2.0]).not_())
    assert rows.height == 0
    weights = (done.done("rlvr-rlvr") or {})["class_weights"]["trials/eligibility"]
    assert len(weights) > 1 and len(set(weights.values())) > 1
    logged = [row.values for row in done.metrics() if row.stage == "rlvr-rlvr"]
    assert all("weighted_reward" in row for row in logged) and any(
        row["weighted_reward"] != row["reward"] for row in logged
    )


# ---- selection and early stop


def up_and_down(prompt: str, key: int, member: int, skill: int) -> str:
    """Right while the skill is 3 or 4, then never again."""
    return luck(prompt, key, member, 10 if skill in (3, 4) else -10)


def test_the_weights_that_did_best_on_tuning_are_kept_not_the_last_ones(folder: Path) -> None:
    done = run(folder / "run", recipe(folder, tuning_every=1), plan=up_and_down, stages=("rlvr",))
    facts = done.done("rlvr-rlvr") or {}
    assert facts["best_step"] == 4 and facts["step"] == 6  # of equals the longer trained
    assert json.loads((done.model("rlvr") / "config.json").read_text())["skill"] == 4


def test_patience_ends_a_run_that_gets_no_better_and_says_so(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chosen = recipe(folder, steps=40, tuning_every=1, patience=3)
    done = run(folder / "run", chosen, plan=up_and_down, stages=("rlvr",))
    facts = done.done("rlvr-rlvr") or {}
    assert facts["step"] == 7 and facts["best_step"] == 4
    assert facts["stopped"].startswith("no better on tuning in 3 checks, each of 21 cases and so uncertain by")
    assert facts["best_standard_error"] == pytest.approx(standard_error(facts["best"], 21), abs=1e-4)
    assert "stopped after 7 of 40 steps" in capfd.readouterr().err
    assert json.loads((done.model("rlvr") / "config.json").read_text())["skill"] == 4
    assert len({row.step for row in done.metrics()}) == 7


def test_patience_compares_means_of_checks_so_that_one_lucky_check_decides_nothing() -> None:
    worse = [0.5, 0.5, 0.4, 0.4]
    assert not out_of_patience(worse, None) and not out_of_patience(worse[:3], 2)
    assert out_of_patience(worse, 2) and out_of_patience([0.4] * 4, 2) and not out_of_patience([0.4, 0.4, 0.4, 0.41], 2)
    lucky = [0.30, 0.55, 0.36, 0.40, 0.44, 0.46, 0.48]  # one lucky check above a steady rise
    assert not any(out_of_patience(lucky[:n], 3) for n in range(8))
    assert out_of_patience([*lucky, 0.42, 0.40, 0.38], 3)


def test_fewer_rising_runs_are_ended_than_by_comparing_single_checks_with_the_best() -> None:
    """150 tuning cases, accuracy rising two points a check: noise of four points on each."""
    stopped: dict[str, int] = defaultdict(int)
    for seed in range(300):
        draw = random.Random(seed)
        checks = [sum(draw.random() < 0.3 + 0.02 * check for _ in range(150)) / 150 for check in range(15)]
        stopped["ours"] += any(out_of_patience(checks[:n], 3) for n in range(1, 16))
        stopped["single"] += any(max(checks[n - 3 : n]) <= max(checks[: n - 3]) for n in range(4, 16))
    assert stopped["ours"] < 0.25 * 300 < 0.4 * 300 < stopped["single"]


# ---- alarms in a run


def paid_for_form(prompt: str, key: int, member: int, skill: int) -> str:
    """From the third step on well-formed ever more often and right ever less: what a reward that
    pays for form makes of a model."""
    draw, gone = random.Random(f"{key}:{member}:form").random(), min(1.0, max(0.0, (skill - 2) / 8))
    if draw > 0.5 + 0.5 * gone:
        return "I cannot say."
    text = luck(prompt, key, member, round(7 * (1 - gone)) - 2)
    return text if text != WRONG else '<think>short</think>\n<answer>{"answer": -7}</answer>'


HACK = {
    "tree": {"reward": {"malformed": -2, "wrong": 1.0, "correct": 1.1}},
    "steps": 30,
    "questions_per_step": 30,
    "samples": 8,
}


def test_a_planted_hack_is_told_within_20_steps_and_written_where_it_can_be_shared(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = run(folder / "run", recipe(folder, **HACK), plan=paid_for_form)
    (hack,) = [row for row in done.alarms() if row.alarm == "reward_hack"]
    assert hack.stage == "rlvr-rlvr" and hack.arm == "rlvr" and 2 < hack.step <= 22
    assert f"alarm reward_hack at step {hack.step + 1}: the reward rose" in capfd.readouterr().err
    assert json.loads((done.path / "results.json").read_text())["alarms"] == [
        alarm.to_dict() for alarm in done.alarms()
    ]
    assert (done.done("rlvr-rlvr") or {})["step"] == 30  # warned, not stopped
    assert len({row.alarm for row in done.alarms()}) == len(done.alarms())  # each once


@pytest.mark.parametrize(("reward", "told"), [({"malformed": -2, "wrong": 1.0, "correct": 1.0}, True), ({}, False)])
def test_whether_form_alone_was_paid_depends_on_what_the_recipe_pays(
    folder: Path, reward: dict[str, float], told: bool
) -> None:
    """The same answers: well-formed ever more often, and of those as many right as ever."""

    def formal(prompt: str, key: int, member: int, skill: int) -> str:
        formed = random.Random(f"{key}:{member}:form").random() < 0.4 + 0.05 * skill
        return luck(prompt, key, member, 4) if formed else "I cannot say."

    done = run(
        folder / "run",
        recipe(folder, **{**HACK, "tree": {"reward": reward}, "steps": 16}),
        plan=formal,
        stages=("rlvr",),
    )
    assert ("form_only" in {row.alarm for row in done.alarms()}) is told


def test_an_alarm_stops_a_run_where_the_recipe_says_so_and_the_best_weights_stay(folder: Path) -> None:
    done = run(folder / "run", recipe(folder, on_alarm="stop", tuning_every=100, **HACK), plan=paid_for_form)
    facts, first = done.done("rlvr-rlvr") or {}, done.alarms()[0]
    assert facts["stopped"] == f"alarm {first.alarm}" and facts["step"] == first.step + 1 < 30
    assert (
        facts["best_step"] == facts["step"] and (done.model("rlvr") / "config.json").is_file()
    )  # checked on tuning before it ended
    assert "rlvr" in json.loads((done.path / "results.json").read_text())["arms"]


def test_an_alarm_of_an_interrupted_attempt_is_raised_and_obeyed_again(folder: Path) -> None:
    """Interrupted in the last check on tuning, after the alarm was written and before the step
    was."""
    chosen, tripped = recipe(folder, on_alarm="stop", **HACK), False

    class Broken(ScriptedEngine):
        def sample(self, *arguments: object) -> object:  # type: ignore[override]
            nonlocal tripped
            if not tripped and Run(folder / "run").alarms():
                tripped = True
                raise KeyboardInterrupt
            return super().sample(*arguments)  # type: ignore[arg-type]

    whole = run(folder / "whole", chosen, plan=paid_for_form, stages=("rlvr",))
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(
            chosen,
            folder / "run",
            stages=("rlvr",),
            open_engine=lambda _, model: Broken.load(model, paid_for_form),
            locate=lambda _: folder / "base",
        )
    again = run(folder / "run", chosen, plan=paid_for_form, stages=("rlvr",), resume=True)
    assert again.alarms() == whole.alarms() != []
    assert steady([again.done("rlvr-rlvr") or {}]) == steady([whole.done("rlvr-rlvr") or {}])
    assert steady(lines(again)) == steady(lines(whole))
