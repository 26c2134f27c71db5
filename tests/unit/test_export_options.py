"""Options of launch scripts: each exists in the trainer and arrives through bash with the recipe's
value. verl, which is not installed here, reads them itself in `benchmarks/verl_loads_export.py`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ehrmind.config import parse_recipe
from ehrmind.export.trainer_options import not_carried, trl_options, verl_options
from ehrmind.export.trainers import export_for
from tests.exported import cases_file, launched
from tests.small_models import small_model

MADE_UP = {"synthetic": {"n": 3}}
HOSTILE = 'it\'s; $HOME `id` "x" \\ é | {a: [b]}'
CHANGES = [
    "seed=7",
    "decoding={temperature: 0.9, top_p: 0.95, top_k: 40, max_new_tokens: 77}",
    (
        "rlvr={samples: 6, questions_per_step: 4, steps: 50, epochs_per_batch: 2, clip_low: 0.1, clip_high: 0.28, kl:"
        " 0.02}"
    ),
    "rlvr.learning_rate=0.00003",
    "rlvr.betas=[0.8, 0.99]",
    "rlvr.mask_truncated=true",
    "model.template={enable_thinking: false, style: 'a b'}",
    "model.lora={rank: 8, alpha: 24, targets: [q_proj, v_proj]}",
]


def exported(trainer: str, folder: Path, *changes: str) -> Path:
    model = small_model(folder / "a model's folder", "llama")
    export_for(trainer, cases_file(folder), folder / "out", model=str(model), overrides=[*CHANGES, *changes])
    return folder / "out"


def as_trl_reads(folder: Path) -> Any:
    """(script, training, model) arguments, by TRL's own parser, which fails on what it does not
    know."""
    grpo = pytest.importorskip("trl.scripts.grpo", reason="TRL is not installed; `make setup` installs it")
    module, name, *given = launched(folder, "--use_cpu", "True", PER_DEVICE="8")
    assert (module, name) == ("-m", "trl.scripts.grpo")
    return grpo.make_parser().parse_args_and_config(given, fail_with_unknown_args=True)


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_every_option_for_trl_exists_there_and_arrives(tmp_path: Path) -> None:
    script, training, model, _ = as_trl_reads(exported("trl", tmp_path))
    assert script.reward_funcs == ["ehrmind.verify.trainer_rewards.ehrmind_reward"]
    assert (script.dataset_name, script.dataset_test_split) == (str(tmp_path / "out" / "data"), "validation")
    assert Path(model.model_name_or_path) == tmp_path / "a model's folder"
    assert (model.use_peft, model.lora_r, model.lora_alpha, model.lora_target_modules) == (
        True,
        8,
        24,
        ["q_proj", "v_proj"],
    )
    read = {option: value for _, option, value in trl_options(recipe(*CHANGES), True) if hasattr(training, option)}
    assert len(read) > 25
    for option, value in {**read, "lr_scheduler_kwargs": {"min_lr_rate": 0.1}}.items():
        if option not in ("chat_template_kwargs", "bf16"):
            assert getattr(training, option) == value, option
    assert (training.epsilon, training.epsilon_high, training.beta, training.use_bias_correction_kl) == (
        0.1,
        0.28,
        0.02,
        False,
    )
    assert (training.temperature, training.top_p, training.top_k, training.max_completion_length) == (0.9, 0.95, 40, 77)
    assert (training.num_generations, training.num_iterations, training.learning_rate, training.adam_beta2) == (
        6,
        2,
        3e-5,
        0.99,
    )
    assert training.chat_template_kwargs == {"enable_thinking": False, "style": "a b"}
    assert (training.max_steps, training.warmup_steps, training.eval_steps) == (100, 10, 40)
    assert (training.generation_batch_size, training.gradient_accumulation_steps) == (24, 3)
    assert training.report_to == [] and not training.log_completions and not training.push_to_hub


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize(("advantage", "scaled"), [("grpo", "group"), ("dr_grpo", "none"), ("rloo", "none")])
def test_every_loss_and_advantage_has_its_name_in_trl(loss: str, advantage: str, scaled: str, tmp_path: Path) -> None:
    changes = (f"rlvr.loss={loss}", f"rlvr.advantage={advantage}", "rlvr.importance=sequence", "rlvr.schedule=constant")
    _, training, _, _ = as_trl_reads(exported("trl", tmp_path, *changes))
    assert (training.loss_type, training.scale_rewards, training.importance_sampling_level) == (
        loss,
        scaled,
        "sequence",
    )
    assert training.lr_scheduler_type == "constant_with_warmup" and training.lr_scheduler_kwargs in (None, {})


def as_hydra_reads(given: list[str]) -> dict[str, Any]:
    parser = pytest.importorskip(
        "hydra.core.override_parser.overrides_parser", reason="Hydra is not installed; `make setup` installs it"
    )
    return {one.key_or_group: one.value() for one in parser.OverridesParser.create().parse_overrides(given)}


def test_every_option_for_verl_arrives_as_the_recipe_has_it(tmp_path: Path) -> None:
    module, name, *given = launched(exported("verl", tmp_path), GPUS="2", NODES="3")
    assert (module, name) == ("-m", "verl.trainer.main_ppo")
    found = as_hydra_reads(given)
    carried = verl_options(recipe(*CHANGES), 947, 14)
    for _, option, value in carried:
        if option != "trainer.experiment_name":
            assert found[option.removeprefix("+")] == value, option
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    clips = [found[f"{actor}.{name}"] for name in ("clip_ratio_low", "clip_ratio_high", "kl_loss_coef", "ppo_epochs")]
    sampling = [found[f"{rollout}.{name}"] for name in ("temperature", "top_p", "top_k", "n", "seed")]
    assert clips == [0.1, 0.28, 0.02, 2] and sampling == [0.9, 0.95, 40, 6, 7]
    assert found["data.max_prompt_length"] == 947 and found["data.max_response_length"] == 77
    assert found["data.train_files"] == str(tmp_path / "out" / "data" / "train.parquet")
    assert found["actor_rollout_ref.model.path"] == str(tmp_path / "a model's folder")
    assert (found["trainer.nnodes"], found["trainer.n_gpus_per_node"], found["trainer.logger"]) == (3, 2, ["console"])
    assert found["reward.custom_reward_function.path"] == "pkg://ehrmind.verify.trainer_rewards"


@pytest.mark.parametrize("name", [HOSTILE, "true", "null", "3", "", "a=b,c", "a|b", "back\\", "\\'both\\\\'"])
def test_a_name_that_a_person_chose_is_neither_run_nor_read_as_something_else(name: str, tmp_path: Path) -> None:
    export_for("verl", cases_file(tmp_path), tmp_path / "out", overrides=["name=" + repr_yaml(name)])
    found = as_hydra_reads(launched(tmp_path / "out", MODEL="m'odel")[2:])
    assert found["trainer.experiment_name"] == name and found["actor_rollout_ref.model.path"] == "m'odel"
    cells = [line for line in (tmp_path / "out" / "README.md").read_text().splitlines() if line.startswith("| `name`")]
    assert len(cells) == 1 and cells[0].replace("\\|", "").count("|") == 4


def test_options_behind_the_script_count_in_place_of_its_own(tmp_path: Path) -> None:
    export_for("verl", cases_file(tmp_path), tmp_path / "out")
    assert (
        as_hydra_reads(launched(tmp_path / "out", "data.train_batch_size=3", MODEL="m")[2:])["data.train_batch_size"]
        == 3
    )


def test_devices_that_do_not_divide_a_step_are_refused_before_anything_starts(tmp_path: Path) -> None:
    export_for("trl", cases_file(tmp_path), tmp_path / "out", overrides=["rlvr.questions_per_step=4", "rlvr.samples=3"])
    with pytest.raises(
        RuntimeError, match="A step has 12 answers, which PROCESSES=5 times PER_DEVICE=6 does not divide"
    ):
        launched(tmp_path / "out", MODEL="m", PROCESSES="5")
    assert launched(tmp_path / "out", MODEL="m", PROCESSES="2")


@pytest.mark.parametrize("trainer", ["verl", "trl"])
def test_caches_and_checkpoints_stay_in_the_folder_and_nobody_is_told(trainer: str, tmp_path: Path) -> None:
    export_for(trainer, cases_file(tmp_path), tmp_path / "out")
    shown = subprocess.run(
        ["bash", "-c", f"exec() {{ env; umask; }}; . {tmp_path / 'out' / 'launch.sh'}"],
        env={"MODEL": "m", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for said in (f"HF_DATASETS_CACHE={tmp_path}/out/cache", "HF_HUB_OFFLINE=1", "RAY_USAGE_STATS_ENABLED=0", "0077"):
        assert said in shown
    assert ("RAY_AUTH_MODE=token" in shown) == (trainer == "verl")


def test_what_a_trainer_cannot_do_is_said_of_the_recipes_that_ask_for_it() -> None:
    asked = recipe(
        "rlvr.curriculum=pass_rate",
        "rlvr.patience=3",
        "rlvr.mask_truncated=true",
        "reward.truncated=-1.0",
        "rlvr.dynamic_sampling=2",
    )
    said = {trainer: " / ".join(not_carried(asked, trainer)) for trainer in ("verl", "trl")}
    for trainer, sentences in said.items():
        assert "pass_rate" in sentences and "patience" in sentences and "dynamic_sampling" in sentences
        assert ("mask_truncated" in sentences) == ("reward.truncated" in sentences) == (trainer == "verl")
    assert not any(word in " ".join(not_carried(recipe(), "trl")) for word in ("rlvr.", "reward.", "model."))


def recipe(*changes: str) -> Any:
    from ehrmind.config.recipe import apply_override

    tree: dict[str, Any] = {"data": {"train": MADE_UP, "held_out": MADE_UP}, "model": {"name": "m"}}
    for change in changes:
        apply_override(tree, change)
    return parse_recipe(tree)


def repr_yaml(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
