"""A recipe's settings under the names of verl 0.9 and TRL 1.16, and the settings that they cannot
carry.

Each row is (the recipe's key, their option, its value). `benchmarks/verl_loads_export.py` and
`tests/unit/test_export_options.py` compare the names with the trainers' own config classes.
"""

from __future__ import annotations

import json
from math import ceil
from typing import Any

from ehrmind.config import Recipe
from ehrmind.types import InputError

Carried = list[tuple[str, str, Any]]

NO_BOUND = 1e6  # verl bounds the ratio a second time, at 3, if the advantage is negative; our loss does not
AGGREGATION = {"grpo": "seq-mean-token-mean", "dapo": "token-mean", "dr_grpo": "seq-mean-token-sum-norm"}
ADVANTAGE = ("grpo", "dr_grpo", "rloo")  # both trainers have these
IMPORTANCE = ("token", "sequence")
FSDP_DTYPE = {"float32": "fp32", "bfloat16": "bf16"}


def refuse_our_own(recipe: Recipe, trainer: str) -> None:
    """Raises InputError for a loss or an advantage that was added here and that the trainer is not
    known to have."""
    rlvr = recipe.rlvr
    chosen = (("loss", rlvr.loss, AGGREGATION), ("advantage", rlvr.advantage, ADVANTAGE))
    for key, name, known in (*chosen, ("importance", rlvr.importance, IMPORTANCE)):
        if name not in known:
            raise InputError(
                f"rlvr.{key}={name} has no counterpart in {trainer} that is known here; add"
                f" rlvr.{key}={next(iter(known))}."
            )


def verl_options(recipe: Recipe, longest_prompt: int, questions: int) -> Carried:
    """Hydra overrides of `verl.trainer.main_ppo`, without paths and machines. `longest_prompt` is
    in tokens, `questions` counts train."""
    rlvr, decoding, actor = recipe.rlvr, recipe.decoding, "actor_rollout_ref.actor"
    rollout, optimiser = "actor_rollout_ref.rollout", f"{actor}.optim"
    longest = longest_prompt + decoding.max_new_tokens
    rows: Carried = [
        ("name", "trainer.experiment_name", recipe.name),
        ("seed", "data.seed", recipe.seed),
        ("seed", f"{rollout}.seed", recipe.seed),
        ("prompts.max_tokens", "data.max_prompt_length", longest_prompt),
        ("decoding.max_new_tokens", "data.max_response_length", decoding.max_new_tokens),
        ("decoding.temperature", f"{rollout}.temperature", decoding.temperature),
        ("decoding.top_p", f"{rollout}.top_p", decoding.top_p),
        ("decoding.top_k", f"{rollout}.top_k", decoding.top_k or -1),
        ("rlvr.questions_per_step", "data.train_batch_size", rlvr.questions_per_step),
        ("rlvr.questions_per_step", f"{actor}.ppo_mini_batch_size", rlvr.questions_per_step),
        ("rlvr.samples", f"{rollout}.n", rlvr.samples),
        ("rlvr.advantage", "algorithm.adv_estimator", "rloo" if rlvr.advantage == "rloo" else "grpo"),
        ("rlvr.advantage", "algorithm.norm_adv_by_std_in_grpo", rlvr.advantage == "grpo"),
        ("rlvr.loss", f"{actor}.loss_agg_mode", AGGREGATION[rlvr.loss]),
        ("rlvr.importance", f"{actor}.policy_loss.loss_mode", "gspo" if rlvr.importance == "sequence" else "vanilla"),
        ("rlvr.clip_low", f"{actor}.clip_ratio_low", rlvr.clip_low),
        ("rlvr.clip_high", f"{actor}.clip_ratio_high", rlvr.clip_high),
        ("rlvr.clip_low", f"{actor}.clip_ratio_c", NO_BOUND),
        ("rlvr.kl", f"{actor}.use_kl_loss", rlvr.kl > 0),
        ("rlvr.kl", f"{actor}.kl_loss_coef", rlvr.kl),
        ("rlvr.kl", f"{actor}.kl_loss_type", "low_var_kl"),
        ("rlvr.kl", "algorithm.use_kl_in_reward", False),
        ("rlvr.epochs_per_batch", f"{actor}.ppo_epochs", rlvr.epochs_per_batch),
        ("rlvr.dynamic_sampling", "algorithm.filter_groups.enable", rlvr.dynamic_sampling > 0),
        ("rlvr.dynamic_sampling", "algorithm.filter_groups.metric", "acc"),
        ("rlvr.steps", "trainer.total_training_steps", rlvr.steps),
        ("rlvr.steps", "trainer.total_epochs", ceil(rlvr.steps * rlvr.questions_per_step / questions) + 1),
        ("rlvr.tuning_every", "trainer.test_freq", rlvr.tuning_every),
        ("rlvr.checkpoint_every", "trainer.save_freq", rlvr.checkpoint_every),
        ("rlvr.learning_rate", f"{optimiser}.lr", rlvr.learning_rate),
        ("rlvr.warmup_share", f"{optimiser}.lr_warmup_steps_ratio", rlvr.warmup_share),
        ("rlvr.schedule", f"{optimiser}.lr_scheduler_type", rlvr.schedule),
        ("rlvr.final_share", f"{optimiser}.min_lr_ratio", rlvr.final_share),
        ("rlvr.weight_decay", f"{optimiser}.weight_decay", rlvr.weight_decay),
        ("rlvr.betas", f"{optimiser}.betas", list(rlvr.betas)),
        ("rlvr.max_gradient_norm", f"{optimiser}.clip_grad", rlvr.max_gradient_norm),
        ("rlvr.tokens_per_microbatch", f"{actor}.use_dynamic_bsz", True),
        ("rlvr.tokens_per_microbatch", f"{actor}.ppo_max_token_len_per_gpu", max(rlvr.tokens_per_microbatch, longest)),
        (
            "rlvr.gradient_checkpointing",
            "actor_rollout_ref.model.enable_gradient_checkpointing",
            rlvr.gradient_checkpointing,
        ),
    ]
    if rlvr.loss == "dr_grpo":
        rows.append(("decoding.max_new_tokens", f"{actor}.loss_scale_factor", decoding.max_new_tokens))
    return rows + _verl_model(recipe)


def _verl_model(recipe: Recipe) -> Carried:
    model = recipe.model
    computed = "bfloat16" if model.autocast else model.dtype
    parts = [f"actor_rollout_ref.{part}.fsdp_config" for part in ("actor", "ref")]
    rows: Carried = [("model.dtype", f"{part}.model_dtype", FSDP_DTYPE[model.dtype]) for part in parts]
    rows += [("model.autocast", f"{part}.dtype", computed) for part in parts]
    rows.append(("model.autocast", "actor_rollout_ref.rollout.dtype", computed))
    rows += [
        ("model.template", f"+data.apply_chat_template_kwargs.{key}", value) for key, value in model.template.items()
    ]
    if model.lora is not None:
        rows += [
            ("model.lora.rank", "actor_rollout_ref.model.lora_rank", model.lora.rank),
            ("model.lora.alpha", "actor_rollout_ref.model.lora_alpha", model.lora.alpha),
            ("model.lora.targets", "actor_rollout_ref.model.target_modules", model.lora.targets),
        ]
    return rows


def trl_options(recipe: Recipe, validated: bool) -> Carried:
    """Options of `trl.scripts.grpo`, without paths and machines; `validated` says whether there are
    cases to validate on."""
    rlvr, decoding, model = recipe.rlvr, recipe.decoding, recipe.model
    updates = rlvr.steps * rlvr.epochs_per_batch
    cosine = rlvr.schedule == "cosine"
    rows: Carried = [
        ("seed", "seed", recipe.seed),
        ("decoding.max_new_tokens", "max_completion_length", decoding.max_new_tokens),
        ("decoding.temperature", "temperature", decoding.temperature),
        ("decoding.top_p", "top_p", decoding.top_p),
        ("decoding.top_k", "top_k", decoding.top_k),
        ("rlvr.samples", "num_generations", rlvr.samples),
        ("rlvr.advantage", "scale_rewards", "group" if rlvr.advantage == "grpo" else "none"),
        ("rlvr.loss", "loss_type", rlvr.loss),
        ("rlvr.importance", "importance_sampling_level", rlvr.importance),
        ("rlvr.clip_low", "epsilon", rlvr.clip_low),
        ("rlvr.clip_high", "epsilon_high", rlvr.clip_high),
        ("rlvr.kl", "beta", rlvr.kl),
        ("rlvr.kl", "use_bias_correction_kl", False),
        ("rlvr.epochs_per_batch", "num_iterations", rlvr.epochs_per_batch),
        ("rlvr.mask_truncated", "mask_truncated_completions", rlvr.mask_truncated),
        ("rlvr.steps", "max_steps", updates),
        ("rlvr.checkpoint_every", "save_steps", rlvr.checkpoint_every * rlvr.epochs_per_batch),
        ("rlvr.learning_rate", "learning_rate", rlvr.learning_rate),
        ("rlvr.warmup_share", "warmup_steps", max(1, round(rlvr.warmup_share * updates)) if rlvr.warmup_share else 0),
        ("rlvr.schedule", "lr_scheduler_type", "cosine_with_min_lr" if cosine else "constant_with_warmup"),
        ("rlvr.weight_decay", "weight_decay", rlvr.weight_decay),
        ("rlvr.betas", "adam_beta1", rlvr.betas[0]),
        ("rlvr.betas", "adam_beta2", rlvr.betas[1]),
        ("rlvr.max_gradient_norm", "max_grad_norm", rlvr.max_gradient_norm),
        ("rlvr.gradient_checkpointing", "gradient_checkpointing", rlvr.gradient_checkpointing),
        ("model.dtype", "dtype", model.dtype),
        ("model.autocast", "bf16", model.autocast),
    ]
    if cosine:
        rows.append(("rlvr.final_share", "lr_scheduler_kwargs", json.dumps({"min_lr_rate": rlvr.final_share})))
    if rlvr.advantage == "rloo":  # less the mean of the others is n / (n − 1) times less the mean of all
        rows.append(("rlvr.advantage", "reward_weights", rlvr.samples / (rlvr.samples - 1)))
    if model.template:
        rows.append(("model.template", "chat_template_kwargs", json.dumps(model.template)))
    if validated:
        rows += [
            ("rlvr.tuning_every", "eval_strategy", "steps"),
            ("rlvr.tuning_every", "eval_steps", rlvr.tuning_every * rlvr.epochs_per_batch),
            ("rlvr.tuning_every", "num_generations_eval", 1),
        ]
    if model.lora is not None:
        targets = [model.lora.targets] if isinstance(model.lora.targets, str) else model.lora.targets
        rows += [
            ("model.lora", "use_peft", True),
            ("model.lora.rank", "lora_r", model.lora.rank),
            ("model.lora.alpha", "lora_alpha", model.lora.alpha),
            ("model.lora.dropout", "lora_dropout", model.lora.dropout),
            ("model.lora.targets", "lora_target_modules", targets),
        ]
    return rows


def not_carried(recipe: Recipe, trainer: str) -> list[str]:
    """Sentences about settings of the recipe that this trainer does not follow."""
    rlvr, reward, verl = recipe.rlvr, recipe.reward, trainer == "verl"
    rounds = f"rlvr.dynamic_sampling={rlvr.dynamic_sampling}"
    said = {
        "rlvr.curriculum=pass_rate: questions are drawn uniformly": rlvr.curriculum != "uniform",
        "rlvr.mix: families are drawn as often as train has them": bool(rlvr.mix),
        "rlvr.patience: nothing stops the run early": rlvr.patience is not None,
        "rlvr.on_alarm=stop: there are no alarms": rlvr.on_alarm == "stop",
        "rlvr.dynamic_sampling: groups that are all equal stay": rlvr.dynamic_sampling > 0 and not verl,
        f"{rounds}: verl fills up until every group differs, in as many rounds as it takes": (
            rlvr.dynamic_sampling > 0 and verl
        ),
        "rlvr.mask_truncated: answers cut at the limit stay in the loss": rlvr.mask_truncated and verl,
        "reward.truncated: verl does not say which answers were cut, so they earn reward.malformed": (
            verl and reward.truncated != reward.malformed
        ),
        f"reward.extra ({', '.join(reward.extra)}): the rewards are the verifier's alone": bool(reward.extra),
        "model.lora.dropout: none": verl and recipe.model.lora is not None and recipe.model.lora.dropout > 0,
    }
    always = [
        "the weights that did best on tuning are not kept for you: choose among the checkpoints",
        (
            "special tokens are taken out of an answer before it is judged; here they stay in, and count as text"
            " outside the blocks"
        ),
        *(["validation samples at decoding.temperature; here tuning is greedy"] if not verl else []),
    ]
    return [sentence for sentence, holds in said.items() if holds] + always
