"""The recipe: one YAML file that says everything an experiment does.

`load_recipe(path, overrides)` reads YAML, applies `dotted.key=value` overrides (values are YAML too) and
validates. An unknown key fails and names the nearest one; relative paths are taken from the recipe's folder
first, then from the working directory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, PositiveInt, ValidationError, model_validator

from ehrmind.config.data import Data, DataSource
from ehrmind.config.explain import explain, key_given_twice
from ehrmind.config.parts import Decoding, Evaluate, Model, Pilot, Prompts, Rlvr, Tracking, Warmup
from ehrmind.config.section import Section
from ehrmind.types import InputError
from ehrmind.verify.reward import PAPER, RewardWeights

Arm = Literal["base", "rlvr", "sft", "sft_rlvr"]
S = TypeVar("S", bound=Section)
ARMS: tuple[Arm, ...] = ("base", "rlvr", "sft", "sft_rlvr")


class Recipe(Section):
    """One experiment. Every key has a default but `data` and `model`."""

    name: str = "run"
    seed: int = 0
    data: Data
    model: Model
    prompts: Prompts = Prompts()
    decoding: Decoding = Decoding()
    reward: RewardWeights = PAPER
    pilot: Pilot = Pilot()
    warmup: Warmup = Warmup()
    rlvr: Rlvr = Rlvr()
    evaluate: Evaluate = Evaluate()
    arms: list[Arm] = Field(default=list(ARMS), min_length=1)
    tracking: Tracking = Tracking()
    sampler_rows: PositiveInt = Field(default=512, description="answers decoded at once; never by free memory")
    sampler_tokens: PositiveInt = Field(
        default=262144, description="tokens whose keys and values are kept at once, a prompt counting once for its group"
    )
    threads: PositiveInt | None = Field(default=None, description="CPU threads; part of bit-for-bit reproducibility")

    @model_validator(mode="after")
    def nothing_twice(self) -> Recipe:
        for name, chosen in (("arms", self.arms), ("evaluate.decodings", self.evaluate.decodings)):
            if len(set(chosen)) < len(chosen):
                raise ValueError(f"{name} names something twice; keep one")
        return self

    @model_validator(mode="after")
    def samples_differ(self) -> Recipe:
        if self.evaluate.probabilities == "samples" and self.decoding.temperature == 0:
            raise ValueError("evaluate.probabilities=samples needs answers that differ; raise decoding.temperature above 0")
        return self


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `dotted.key=value` overrides. Raises InputError with one sentence."""
    if not path.is_file():
        raise InputError(f"There is no recipe at {path}; `recipes/` holds the ones that ship.")
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
        twice = key_given_twice(yaml.compose(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path} is not a recipe: it should be a mapping that starts with `data:` and `model:`.")
    if twice:
        raise InputError(f"{path}, line {twice.start_mark.line + 1}: the key '{twice.value}' is given twice; keep one.")
    for override in overrides:
        _apply(tree, override)
    recipe = parse_recipe(tree, source=str(path))
    return _with_paths_from(recipe, path.parent)


def parse_recipe(tree: dict[str, Any], source: str = "recipe") -> Recipe:
    return parse_section(Recipe, tree, source)


def parse_section(kind: type[S], tree: Mapping[str, Any], source: str) -> S:
    """A part of a recipe, or all of it. What is wrong is said in one sentence that begins with `source`."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error.errors(), kind.model_json_schema())}") from None


def recipe_digest(recipe: Recipe) -> str:
    return hashlib.sha256(json.dumps(recipe.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def differing_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the keys whose values differ, for the message that refuses a resume."""
    names = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            names += differing_keys(before, after, f"{prefix}{key}.")
        elif before != after:
            names.append(f"{prefix}{key}")
    return names


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"'{override}' is not an override; write key=value, for example rlvr.steps=20.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"The value in '{override}' is not valid YAML.") from None
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        child = node.get(parent)
        if not isinstance(child, dict):
            child = node[parent] = {}
        node = child
    node[last] = value


def _with_paths_from(recipe: Recipe, folder: Path) -> Recipe:
    """Make file paths absolute: beside the recipe if there, else from the working directory."""

    def located(text: str | Path) -> str:
        path = Path(text).expanduser()
        for base in (folder, Path.cwd()):
            if (base / path).exists():
                return str((base / path).resolve())
        return str(text)

    def source(value: DataSource) -> DataSource:
        changes: dict[str, Any] = {
            "cases": [Path(located(path)) for path in value.cases],
            "medcalc": [located(path) for path in value.medcalc],
        }
        if value.trials is not None:
            files = value.trials
            there = {"topics": Path(located(files.topics)), "qrels": Path(located(files.qrels))}
            changes["trials"] = files.model_copy(update={**there, "trials": [Path(located(path)) for path in files.trials]})
        if value.table is not None:
            changes["table"] = value.table.model_copy(update={"path": Path(located(value.table.path))})
        if value.ehr is not None:
            given = {name: getattr(value.ehr, name) for name in ("meds", "labels", "aces", "ehrshot")}
            there = {name: Path(located(path)) for name, path in given.items() if path is not None}
            changes["ehr"] = value.ehr.model_copy(update=there)
        return value.model_copy(update=changes)

    splits = {name: source(getattr(recipe.data, name)) for name in ("train", "tuning", "held_out")}
    data = recipe.data.model_copy(update={**splits, "elsewhere": {name: source(more) for name, more in recipe.data.elsewhere.items()}})
    model = recipe.model
    if model.name is not None:
        model = model.model_copy(update={"name": located(model.name)})
    return recipe.model_copy(update={"data": data, "model": model})
