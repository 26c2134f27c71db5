"""The recipe: one YAML file that says everything an experiment does.

`load_recipe(path, overrides)` reads YAML, applies `dotted.key=value` overrides (values are YAML too) and
validates. An unknown key fails and names the nearest one; relative paths are taken from the recipe's folder
first, then from the working directory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError, model_validator

from ehrmind.explain import explain, key_given_twice
from ehrmind.types import InputError
from ehrmind.verify.reward import PAPER, RewardWeights

Arm = Literal["base", "rlvr", "sft", "sft_rlvr"]
ARMS: tuple[Arm, ...] = ("base", "rlvr", "sft", "sft_rlvr")
Share = Field(gt=0.0, lt=1.0)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Synthetic(Section):
    """Made-up cases: item i is a pure function of (seed, i)."""

    n: PositiveInt
    seed: int = 0
    tasks: list[str] = Field(default=[], description="calculators to draw from, in turn; empty means all 55")
    difficulty: Literal["easy", "medium", "hard"] = Field(
        default="medium", description="of the notes: length, distractors, units, negations"
    )
    manners: list[Literal["telegraphic", "case_report", "admission_note", "result_table"]] = Field(
        default=[], description="of the notes; empty means all"
    )
    styles: list[Literal["shorthand", "jotted", "numbered", "prose", "formula_first"]] = Field(
        default=[], description="of the worked answers; empty means all"
    )


class DataSource(Section):
    """Where Cases come from: exactly one of the four."""

    cases: list[Path] = Field(default=[], description="parquet files written by `ehrmind data`")
    medcalc: list[str] = Field(default=[], description="MedCalc-Bench files, or a hub data set's id where going online is allowed")
    synthetic: Synthetic | None = None
    share_of_train: float | None = Field(default=None, gt=0.0, lt=1.0, description="tuning only: this share of train's notes")
    recompute: bool = Field(default=False, description="labels by the published formulas from each row's entities, not as stored")
    revision: str | None = Field(default=None, description="a hub data set's commit; resolved and recorded when absent")
    limit: PositiveInt | None = Field(default=None, description="take at most this many cases, chosen by seed")

    @model_validator(mode="after")
    def one_source(self) -> DataSource:
        given = [bool(self.cases), bool(self.medcalc), self.synthetic is not None, self.share_of_train is not None]
        if sum(given) != 1:
            raise ValueError("give exactly one of cases, medcalc, synthetic or share_of_train")
        if self.recompute and not (self.medcalc or self.cases):
            raise ValueError("recompute is for medcalc files and cases made of them; the labels of synthetic cases are computed already")
        return self


class Data(Section):
    """`train` may be learned from, `tuning` may select, `held_out` is scored once per arm, seed and decoding."""

    train: DataSource
    tuning: DataSource = DataSource(share_of_train=0.1)
    held_out: DataSource
    online: bool = Field(default=False, description="allow downloads from the hub")
    exclude_leaks: bool = Field(default=False, description="drop train notes that held_out also has (counted) instead of refusing")

    @model_validator(mode="after")
    def only_tuning_is_a_share(self) -> Data:
        if self.train.share_of_train is not None or self.held_out.share_of_train is not None:
            raise ValueError("share_of_train is for tuning only; give train and held_out files or synthetic cases")
        return self


class TinyModel(Section):
    """A small model built here: random weights, a BPE tokenizer trained on made-up text only."""

    family: Literal["llama", "qwen3", "gemma3"] = "llama"
    hidden: PositiveInt = 128
    layers: PositiveInt = 4
    heads: PositiveInt = 4
    vocabulary: PositiveInt = 1024
    context: PositiveInt = 4096
    sliding_window: PositiveInt | None = None


class Lora(Section):
    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    targets: list[str] | Literal["all-linear"] = "all-linear"


class Model(Section):
    """`name` takes any causal LM `transformers` loads from a directory or the hub's cache; `tiny` builds one."""

    name: str | None = None
    tiny: TinyModel | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    autocast: bool = Field(default=False, description="bf16 autocast in training")
    lora: Lora | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    template: dict[str, Any] = Field(default={}, description="extra arguments of the chat template, such as enable_thinking")

    @model_validator(mode="after")
    def one_model(self) -> Model:
        if (self.name is None) == (self.tiny is None):
            raise ValueError("give exactly one of name and tiny")
        return self


class Prompts(Section):
    think: bool = Field(default=True, description="ask for a <think> block before the answer")
    max_tokens: PositiveInt = Field(default=2048, description="of a prompt, the chat template's included")
    too_long: Literal["refuse", "leave_out"] = Field(
        default="refuse", description="a prompt that is left out of training is counted; in evaluation it scores as wrong"
    )


class Decoding(Section):
    """Sampling; temperature 0 is greedy. Top-p (the paper: 0.95) and top-k are off: a filter biases the log-probabilities."""

    temperature: NonNegativeFloat = 0.6
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: PositiveInt = 512


class Optimiser(Section):
    learning_rate: PositiveFloat = 1e-6
    warmup_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    schedule: Literal["cosine", "constant"] = "cosine"
    final_share: float = Field(default=0.1, ge=0.0, le=1.0, description="cosine ends at this share of the learning rate")
    weight_decay: NonNegativeFloat = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    max_gradient_norm: PositiveFloat = 1.0
    tokens_per_microbatch: PositiveInt = Field(default=16384, description="packed tokens computed at once; never by free memory")
    gradient_checkpointing: bool = False


class Pilot(Section):
    """Samples k answers to questions of `train` to see what the base model can and cannot do."""

    questions: PositiveInt = Field(default=240, description="spread evenly over the strata")
    samples: PositiveInt = 8


class Warmup(Optimiser):
    """Supervised warm-up on gold responses. Defaults are the paper's."""

    learning_rate: PositiveFloat = 2e-5
    strata: Literal["missing", "all"] | list[str] = Field(default="all", description="`missing`: where the pilot saw no right answer")
    traces: Literal["source", "calculators"] = Field(
        default="source", description="worked answers: the data's own, or written from the calculators' steps in several styles"
    )
    traces_per_stratum: PositiveInt | None = None
    rehearsal: NonNegativeFloat = Field(default=0.0, description="answers of the pilot in the other strata to learn again, per trace")
    epochs: PositiveInt = 2
    batch: PositiveInt = 16
    checkpoint_every: PositiveInt = 50

    @model_validator(mode="after")
    def something_to_rehearse(self) -> Warmup:
        if self.rehearsal and self.strata == "all":
            raise ValueError("rehearsal keeps the strata that are not warmed up, and strata=all leaves none; name them, or use missing")
        return self


class Rlvr(Optimiser):
    """GRPO and its relatives. Defaults are the paper's (arXiv 2505.24105) where it states them."""

    steps: PositiveInt = 100
    questions_per_step: PositiveInt = 32
    samples: PositiveInt = Field(default=12, ge=2)
    advantage: Literal["grpo", "dr_grpo", "rloo"] = "grpo"
    loss: Literal["grpo", "dapo", "dr_grpo"] = Field(default="dapo", description="divided by: answer, batch's tokens, a constant")
    importance: Literal["token", "sequence"] = "token"
    clip_low: NonNegativeFloat = 0.2
    clip_high: NonNegativeFloat = 0.2
    kl: NonNegativeFloat = Field(default=0.001, description="k3 against the frozen starting model; 0 keeps no reference")
    epochs_per_batch: PositiveInt = 1
    mask_truncated: bool = Field(default=False, description="answers cut at the token limit leave the loss")
    refill: int = Field(default=0, ge=0, description="rounds of fresh questions in place of all-equal groups")
    shards: PositiveInt = Field(default=1, description="gradient shards, summed in order; part of the result, unlike workers")
    tuning_every: PositiveInt = 20
    checkpoint_every: PositiveInt = 10


class Evaluate(Section):
    decodings: list[Literal["greedy", "sampled"]] = Field(default=["greedy", "sampled"], min_length=1)
    scorer: Literal["ehrmind", "benchmark"] = Field(default="ehrmind", description="the headline scorer; both are always shown")


class Tracking(Section):
    tensorboard: bool = Field(default=False, description="also write the curves for TensorBoard, from metrics.jsonl")


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
    threads: PositiveInt | None = Field(default=None, description="CPU threads; part of bit-for-bit reproducibility")

    @model_validator(mode="after")
    def nothing_twice(self) -> Recipe:
        for name, chosen in (("arms", self.arms), ("evaluate.decodings", self.evaluate.decodings)):
            if len(set(chosen)) < len(chosen):
                raise ValueError(f"{name} names something twice; keep one")
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
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error.errors(), Recipe.model_json_schema())}") from None


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
        return value.model_copy(update={"cases": [Path(located(p)) for p in value.cases], "medcalc": [located(p) for p in value.medcalc]})

    data = recipe.data.model_copy(update={name: source(getattr(recipe.data, name)) for name in ("train", "tuning", "held_out")})
    model = recipe.model
    if model.name is not None:
        model = model.model_copy(update={"name": located(model.name)})
    return recipe.model_copy(update={"data": data, "model": model})
