"""The examples run as their first lines say, and the flat GRPO loop computes what the library
computes.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.prompts import gold_response

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, env=environment, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_labelled_task_of_ones_own_is_asked_judged_and_proven() -> None:
    told = run("add_a_task.py")
    assert "Answer with one of: later, today, now." in told
    assert "now: reward 1.1, right" in told and "later: reward 0.0, " in told and "at once: reward -2.0, " in told
    assert "full marks: 3 of 3 gold responses, 0 corrupted ones" in told


def test_a_tasks_own_hint_is_a_choice_of_recipes_and_an_intervention_of_the_pilot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ehrmind.config import parse_recipe
    from ehrmind.stages.pilot.interventions import interventions
    from ehrmind.tasks import TASKS
    from ehrmind.types import InputError

    triage: Any = example("add_a_task")
    tree = {"data": {"source": {"cases": ["c"]}}, "model": {"name": "m"}, "prompts": {"hints": ["rule"]}}
    with pytest.raises(
        InputError, match=r"prompts\.hints\.0: input should be 'entities', 'formula', 'criteria' or 'ev"
    ):
        parse_recipe(tree)
    monkeypatch.setitem(TASKS, "triage", triage.TRIAGE)
    assert parse_recipe({**tree, "rlvr": {"mix": {"triage": 1.0}}}).prompts.hints == ["rule"]
    assert interventions()["rule"].cause == "not knowing the rule"


@pytest.mark.slow
def test_a_reward_of_ones_own_is_learned_from() -> None:
    lines = run("add_a_reward.py").splitlines()
    parts = [float(line.rpartition("brevity ")[2]) for line in lines]
    assert len(parts) == 12 and sum(parts[-3:]) > sum(parts[:3]) + 0.05


@pytest.mark.slow
def test_a_loss_of_ones_own_is_named_in_a_recipe_and_learned_with() -> None:
    first, second = run("add_a_loss.py").splitlines()
    assert first.startswith("step 0: cispo ") and second.startswith("step 1: cispo ")
    assert all(float(line.rpartition(" ")[2]) != 0 for line in (first, second))


def test_the_loss_of_the_example_steps_as_dapo_does_on_policy_and_still_learns_outside_the_clip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from ehrmind.rl.losses import LOSSES, Normaliser, policy_loss

    monkeypatch.setitem(LOSSES, "cispo", example("add_a_loss").cispo)
    old_NT, mask_NT = torch.full((2, 3), -1.0), torch.tensor([[1, 1, 0], [1, 1, 1]])

    def gradient(name: str, off: float) -> torch.Tensor:
        leaf_NT = (old_NT + off).requires_grad_()
        whole, clips = Normaliser(2, 5, 3), {"clip_low": 0.2, "clip_high": 0.2}
        policy_loss(
            leaf_NT, old_NT, torch.tensor([1.0, -0.5]), mask_NT, whole=whole, normalise=name, **clips
        ).loss.backward()
        assert leaf_NT.grad is not None
        return leaf_NT.grad

    torch.testing.assert_close(gradient("cispo", 0.0), gradient("dapo", 0.0))
    assert not gradient("dapo", 1.0)[0].any() and gradient("cispo", 1.0)[0, :2].all()


def test_an_answer_form_of_ones_own_is_asked_judged_and_proven() -> None:
    told = run("add_an_answer_form.py")
    assert (
        "Which results lie outside their limits?" in told
        and "reward 1.1, right" in told
        and "reward -2.0, not a list" in told
    )
    assert "with full marks: 50 of 50 gold responses, 0 of " in told


def test_an_answer_form_of_ones_own_goes_through_every_stage_to_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ehrmind.config import parse_recipe
    from ehrmind.data import save_cases
    from ehrmind.report import write_report
    from ehrmind.stages.pipeline import run_pipeline
    from ehrmind.tasks import TASKS

    panel: Any = example("add_an_answer_form")
    monkeypatch.setitem(TASKS, panel.FAMILY, panel.PANEL)
    splits = {"train": 24, "tuning": 4, "held_out": 12}
    cases = [
        panel.synthetic(index, seed, split) for seed, (split, n) in enumerate(splits.items()) for index in range(n)
    ]
    right = {panel.PANEL.record(case): gold_response(case) for case in cases}

    def plan(prompt: str, key: int, member: int, skill: int) -> str:
        learnt = skill >= 2 or member % 2
        return next(answer for record, answer in right.items() if record in prompt) if learnt else "I cannot say"

    save_cases(cases, tmp_path / "panel.parquet")
    ScriptedEngine(plan).save(tmp_path / "base")
    small: dict[str, Any] = {
        "pilot": {"questions": 8, "samples": 2},
        "rlvr": {"steps": 2, "questions_per_step": 4, "samples": 2},
        "warmup": {"epochs": 1},
    }
    small |= {"arms": ["base", "sft_rlvr"], "evaluate": {"decodings": ["greedy"]}}
    chosen = parse_recipe(
        {"data": {"source": {"cases": [tmp_path / "panel.parquet"]}}, "model": {"name": "base"}, **small}
    )
    done = run_pipeline(
        chosen,
        tmp_path / "run",
        open_engine=lambda _, where: ScriptedEngine.load(where, plan),
        locate=lambda _: tmp_path / "base",
    )
    page = write_report(done.path)[0].read_text()
    assert "panel/chemistry/out-of-limits" in page and "SFT + RLVR answers 100.0" in page


def test_a_calculator_of_ones_own_works_and_makes_cases_that_are_proven() -> None:
    told = run("add_a_calculator.py")
    assert "1. shock index = 118 / 92 = 1.2826" in told and "with full marks: 20 of 20 gold responses, 0 of " in told


def test_the_flat_loop_learns_from_rewards_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """To say 9 always would be right in 19 of 100 questions."""
    assert example("grpo_in_one_file").main(75) >= 0.5
    assert "step 75: mean reward +" in capsys.readouterr().out


def test_the_flat_loop_computes_advantages_loss_and_logprobs_as_the_library_does() -> None:
    import torch

    from ehrmind.engines.local.forward.sharing import share_prompts
    from ehrmind.engines.local.scoring import score
    from ehrmind.rl.advantages import advantages
    from ehrmind.rl.losses import Normaliser, policy_loss

    flat: Any = example("grpo_in_one_file")
    torch.manual_seed(3)
    model = flat.tiny_model().eval()
    prompts_NL = flat.questions(4).repeat_interleave(5, 0)
    answers_NT, mask_NT = flat.sample(model, prompts_NL, 1.0)
    theirs_NT = flat.logprobs(model, prompts_NL, answers_NT)
    rewards_PG = torch.tensor([-2.0, 0.0, 1.1, 0.0, -2.0]).repeat(4, 1) + torch.arange(4.0)[:, None] * torch.tensor(
        [0, 0, 0, 0, 1.0]
    )
    torch.testing.assert_close(flat.advantages(rewards_PG), advantages(rewards_PG, "grpo"), rtol=1e-5, atol=1e-6)

    lengths = mask_NT.sum(1).tolist()
    groups = [
        (
            prompts_NL[5 * row].tolist(),
            [answers_NT[place, : lengths[place]].tolist() for place in range(5 * row, 5 * row + 5)],
        )
        for row in range(4)
    ]
    for shared in (False, share_prompts(model)):
        ours = score(model, groups, temperature=flat.TEMPERATURE, shared=shared, pad_id=flat.END).logprobs
        torch.testing.assert_close(theirs_NT[mask_NT.bool()], ours, rtol=1e-5, atol=1e-5)

    old_NT = theirs_NT.detach() + 0.4 * torch.randn(theirs_NT.shape)  # some way off, so that clipping binds
    worth_N = advantages(rewards_PG, "grpo").flatten()
    whole = Normaliser(len(worth_N), int(mask_NT.sum()), flat.T)
    clips = {"clip_low": flat.CLIP, "clip_high": flat.CLIP}
    library = policy_loss(theirs_NT, old_NT, worth_N, mask_NT, whole=whole, **clips)
    assert library.clipped_sum > 0
    torch.testing.assert_close(flat.loss(theirs_NT, old_NT, worth_N, mask_NT), library.loss, rtol=1e-5, atol=1e-6)
