"""Questions for another trainer: those of a run or of a Cases file as chat messages, each with all
that its judge needs.

The trainer learns from `train` and validates on `tuning`. held_out is counted and stays here.
Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ehrmind.config import Recipe, parse_recipe
from ehrmind.config.recipe import apply_override
from ehrmind.data.cases import load_cases, refuse_unanswered
from ehrmind.data.splits import check_leaks, split_by_group, splits_digest
from ehrmind.export.model import LEARNED_FROM, restricted_splits
from ehrmind.prompts import messages
from ehrmind.prompts.chat import PromptVariant
from ehrmind.prompts.records import with_histories
from ehrmind.runs import Run
from ehrmind.stages.data import prepare_data
from ehrmind.stages.models import base_here, choose
from ehrmind.stages.prompt_limit import prompt_limit
from ehrmind.types import Case, InputError, Message
from ehrmind.verify.reward import RewardWeights
from ehrmind.verify.trainer_rewards import Question

UNNAMED = "MODEL"  # stands for the model if only cases are given
CHANGEABLE = ("name", "seed", "model", "prompts", "decoding", "reward", "rlvr")
Splits = dict[str, list[Case]]


@dataclass(frozen=True)
class Asked:
    """One exported row."""

    messages: Sequence[Message]
    question: Question


@dataclass(frozen=True)
class Material:
    """Everything that is exported. `model` is where training starts; None if nobody named it, and
    then no prompt was measured."""

    recipe: Recipe
    model: Path | None
    train: Sequence[Asked]
    tuning: Sequence[Asked]
    held_out: int
    longest_prompt: int
    too_long: Mapping[str, int]
    restricted_because: Sequence[str]
    data_digest: str
    not_carried: Sequence[str] = ()  # of the model's chat template


def gather(where: Path, *, arm: str | None = None, model: str | None = None, overrides: Sequence[str] = ()) -> Material:
    """Collects the questions of a run folder under its recipe, or of a Cases file under a recipe's
    defaults; `overrides` change either. Raises InputError."""
    if model is not None and arm is not None:
        raise InputError("--model and --arm both say where training starts; give one.")
    if (where / "recipe.yaml").is_file():
        recipe, splits, folder = _of_run(Run(where), arm, model, overrides)
    elif where.is_file():
        recipe, splits, folder = _of_cases(where, arm, model, overrides)
    else:
        raise InputError(
            f"{where} is neither a run folder nor a Cases file; `ehrmind run` makes the one, `ehrmind data` the other."
        )
    if recipe.prompts.tool:
        raise InputError(
            "prompts.tool=true lets the model call our calculators, which no other trainer runs; add"
            " prompts.tool=false."
        )
    asked, too_long, limit = _asked(recipe, splits, folder)
    if not asked["train"]:
        raise InputError(
            f"Every prompt of train is longer than {limit} tokens; "
            f"{'raise prompts.max_tokens' if limit == recipe.prompts.max_tokens else 'lower decoding.max_new_tokens'}."
        )
    why, digest = (
        restricted_splits(recipe, splits),
        splits_digest([case for split in LEARNED_FROM for case in splits[split]]),
    )
    counts = (len(splits["held_out"]), limit, too_long)
    return Material(recipe, folder, asked["train"], asked["tuning"], *counts, why, digest, _not_carried(recipe, folder))


def _not_carried(recipe: Recipe, folder: Path | None) -> list[str]:
    """Sentences about what a run puts around the model's chat template and another trainer leaves
    out."""
    if folder is None:
        return []
    from ehrmind.engines.local.saving.hf_export import chat_of, writes_today

    instead = "train what `ehrmind export model` writes, which has it inside"
    after = chat_of(folder, recipe.model.template, recipe.model.date).after_prompt(thinks=recipe.prompts.think)
    said = {
        f"the chat template writes the day of training where a run keeps one; {instead}": writes_today(folder),
        f"prompts end without {after!r}, which a run puts behind them; {instead}": bool(after),
    }
    return [sentence for sentence, holds in said.items() if holds]


def _of_run(
    run: Run, arm: str | None, model: str | None, overrides: Sequence[str]
) -> tuple[Recipe, Splits, Path | None]:
    if parts := run.seeds():
        raise InputError(f"{run.path} pools {len(parts)} seeds; name the run of one, such as {parts[0].path}.")
    tree = run.recipe()
    recipe = _changed(tree, overrides, model, source=str(run.path / "recipe.yaml"))
    if run.done("purged") is not None:
        raise InputError(f"{run.path} was purged: its cases are gone; run its recipe again into a new folder.")
    if run.done("data") is None:
        raise InputError(f"{run.path} has no cases yet; go on with the run by --resume, and export it then.")
    splits = prepare_data(run, recipe)
    if model is not None:
        return recipe, splits, _located(recipe)
    warmed_up = (run.model("sft") / "config.json").is_file()
    return recipe, splits, choose(run.path, arm or ("sft" if warmed_up else "base")).folder.resolve()


def _of_cases(
    file: Path, arm: str | None, model: str | None, overrides: Sequence[str]
) -> tuple[Recipe, Splits, Path | None]:
    if arm is not None:
        raise InputError(f"{file} is no run folder, so it has no arm {arm}; name a model directory by --model.")
    source = {"cases": [str(file)]}
    tree = {"name": file.stem, "data": {"train": source, "held_out": source}, "model": {"name": UNNAMED}}
    recipe = _changed(tree, overrides, model, source="how to train")
    cases = load_cases(file)
    refuse_unanswered(cases, str(file))
    splits: Splits = {name: [case for case in cases if case.split == name] for name in (*LEARNED_FROM, "held_out")}
    if not splits["train"]:
        raise InputError(
            f"{file} has no case of the split train, and nothing else is ever trained on; name a file that has."
        )
    check_leaks(**splits)
    if not splits["tuning"]:
        share = recipe.data.tuning.share_of_train or 0.1
        splits["train"], part = split_by_group(splits["train"], share, recipe.seed)
        splits["tuning"] = [replace(case, split="tuning") for case in part]
    for name in LEARNED_FROM:
        splits[name] = with_histories(splits[name], recipe.prompts.history)[0]
    return recipe, splits, None if model is None else _located(recipe)


def _changed(tree: dict[str, Any], overrides: Sequence[str], model: str | None, *, source: str) -> Recipe:
    if model is not None:
        tree["model"] = {**tree["model"], "name": model, "tiny": None, "revision": None}
    for override in overrides:
        if override.partition("=")[0].partition(".")[0] not in CHANGEABLE:
            raise InputError(
                f"'{override[:60]}' changes nothing that is exported; keys begin with {', '.join(CHANGEABLE)}."
            )
        apply_override(tree, override)
    return parse_recipe(tree, source)


def _located(recipe: Recipe) -> Path:
    return base_here(recipe).resolve()


def _asked(recipe: Recipe, splits: Splits, folder: Path | None) -> tuple[dict[str, list[Asked]], dict[str, int], int]:
    """Returns (rows by split, too long prompts by split, the limit of a prompt in tokens)."""
    variant = PromptVariant(recipe.prompts.think, tuple(recipe.prompts.hints))
    limit, chat = recipe.prompts.max_tokens, None
    if folder is not None:
        from ehrmind.engines.local.saving.hf_export import chat_elsewhere

        chat, context = chat_elsewhere(folder, recipe.model.template)
        limit = prompt_limit(recipe.prompts, recipe.decoding, context)
    reward_of = _rewards_of(recipe, splits["train"])
    rows: dict[str, list[Asked]] = {name: [] for name in LEARNED_FROM}
    for name in LEARNED_FROM:
        for case in splits[name]:
            turns = messages(case, variant=variant)
            if chat is not None:  # other trainers tokenise this text, so it must not spell a turn of this model
                turns = [chat.harmless(turn) for turn in turns]
            prompt = chat.prompt(turns) if chat else None
            if prompt is not None and len(prompt.token_ids) > limit:
                continue
            reward = reward_of(case) if name == "train" else recipe.reward.weights
            opening = prompt.opening if prompt else ""
            rows[name].append(
                Asked(turns, Question(case, recipe.prompts.think, reward, opening, recipe.decoding.max_new_tokens))
            )
    return rows, {name: len(splits[name]) - len(rows[name]) for name in LEARNED_FROM}, limit


def _rewards_of(recipe: Recipe, train: Sequence[Case]) -> Callable[[Case], RewardWeights]:
    """Maps a case to its reward weights. A class weight multiplies the outcome's part, so it
    multiplies `correct` and `wrong`."""
    if recipe.rlvr.class_weights == "none":
        return lambda case: recipe.reward.weights
    from ehrmind.stages.rlvr.rewards import class_weights, weight_of

    weights, reward = class_weights(train), recipe.reward.weights
    return lambda case: replace(
        reward, correct=reward.correct * weight_of(case, weights), wrong=reward.wrong * weight_of(case, weights)
    )
