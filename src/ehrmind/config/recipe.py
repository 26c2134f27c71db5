"""The recipe: one YAML file that says everything an experiment does.

`load_recipe(path, overrides)` reads YAML, applies `dotted.key=value` overrides (values are YAML
too) and validates. An unknown key fails and names the nearest one; relative paths are taken from
the recipe's folder first, then from the working directory. The name of a recipe that ships works
instead of a path, and the name of a demo's base model instead of a model's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, PositiveInt, ValidationError, model_validator

from ehrmind.config.arms import ARMS, Arm
from ehrmind.config.data import Data, DataSource, Synthetic
from ehrmind.config.endpoint import EndpointArm, Teacher, why_not_sent
from ehrmind.config.evaluation import Evaluate, Pilot
from ehrmind.config.explain import explain
from ehrmind.config.model import Model
from ehrmind.config.reward import Reward
from ehrmind.config.running import Cluster, Tracking, workers_named
from ehrmind.config.sampling import Decoding, Prompts
from ehrmind.config.section import Section
from ehrmind.config.shipped import find_recipe, shipped_folder, user_path
from ehrmind.config.training import Rlvr, Warmup
from ehrmind.config.yaml_numbers import refuse_odd_numbers
from ehrmind.documents import read_text, read_yaml, yaml_value
from ehrmind.types import InputError

S = TypeVar("S", bound=Section)


class Recipe(Section):
    """An experiment. Every key but `data` and `model` has a default."""

    name: str = Field(default="run", description="name of the run on the page")
    seed: int = Field(default=0, description="seed of everything that is drawn")
    seeds: PositiveInt = Field(
        default=1, description="runs the recipe under this many seeds, from `seed` on, and pools them"
    )
    data: Data
    model: Model
    prompts: Prompts = Prompts()
    decoding: Decoding = Decoding()
    reward: Reward = Reward()
    pilot: Pilot = Pilot()
    warmup: Warmup = Warmup()
    teacher: Teacher | None = Field(default=None, description="teacher of the warm-up, with warmup.traces=teacher")
    rlvr: Rlvr = Rlvr()
    evaluate: Evaluate = Evaluate()
    stages: Literal["all", "auto"] = Field(
        default="all",
        description="`auto` follows the pilot's plan: whether to warm up, on which strata, with which traces",
    )
    arms: list[Arm] = Field(
        default=list(ARMS),
        min_length=1,
        description=(
            "base, rlvr, sft, sft_rlvr; and any of them with a prompt variant (_few_shot, _no_thinking, _open_book,"
            " _tool, _majority, _best) after its name, such as base_open_book"
        ),
    )
    endpoints: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], EndpointArm] = Field(
        default={}, description="models behind endpoints, by name: scored on the held-out cases with the arms"
    )
    tracking: Tracking = Tracking()
    sampler_rows: PositiveInt = Field(default=512, description="answers decoded at once; never chosen by free memory")
    sampler_tokens: PositiveInt = Field(
        default=262144,
        description="tokens in the KV cache; a prompt counts once for its group",
    )
    shards: PositiveInt = Field(
        default=1,
        description=(
            "parts of every batch, sampled and learned from separately and summed in order; they are part of the"
            " result. By default one for each worker"
        ),
    )
    threads: PositiveInt | None = Field(
        default=None,
        description=(
            "CPU threads of a worker; part of bit-for-bit reproducibility. By default all cores, or an even share"
        ),
    )
    cluster: Cluster = Cluster()

    @model_validator(mode="before")
    @classmethod
    def each_worker_has_a_shard(cls, tree: Any) -> Any:
        """Sets `shards` to the number of workers, unless the recipe says it."""
        if not isinstance(tree, Mapping):
            return tree
        workers = workers_named(tree.get("cluster"))
        return {**tree, "shards": workers} if "shards" not in tree and workers is not None else tree

    @model_validator(mode="after")
    def workers_divide_shards(self) -> Recipe:
        if self.shards % self.cluster.workers:
            raise ValueError(
                f"shards={self.shards} cannot be dealt evenly to cluster.workers={self.cluster.workers}; set shards to"
                " a multiple of it"
            )
        if self.cluster.strategy == "fsdp" and self.model.lora is not None:
            raise ValueError(
                "cluster.strategy=fsdp shards gradients and optimiser, which model.lora keeps small already; use ddp"
                " with it"
            )
        return self

    @model_validator(mode="after")
    def nothing_twice(self) -> Recipe:
        for name, chosen in (("arms", self.arms), ("evaluate.decodings", self.evaluate.decodings)):
            if len(set(chosen)) < len(chosen):
                raise ValueError(f"{name} names something twice; keep one")
        return self

    @model_validator(mode="after")
    def a_teacher_is_there_and_may_be_sent_to(self) -> Recipe:
        if self.warmup.traces == "teacher" and self.teacher is None:
            raise ValueError(
                "warmup.traces=teacher needs teacher, such as `teacher: {url: http://localhost:8000/v1, model: NAME}`"
            )
        if self.warmup.traces == "teacher" and not self.prompts.think:
            raise ValueError(
                "warmup.traces=teacher teaches reasoning, and prompts.think=false asks for none; set it to true"
            )
        if self.teacher is not None and (
            refusal := why_not_sent("teacher", self.teacher, {"data.train": self.data.train})
        ):
            raise ValueError(refusal)
        return self

    @model_validator(mode="after")
    def endpoints_are_named_apart_and_may_be_sent_to(self) -> Recipe:
        sources = {"data.held_out": self.data.held_out} | {
            f"data.transfer.{name}": more for name, more in self.places.items()
        }
        for name, endpoint in self.endpoints.items():
            if any(name == arm or name.startswith(f"{arm}_") for arm in (*ARMS, *self.arms)):
                raise ValueError(f"endpoints.{name} has the name of an arm; choose another")
            if refusal := why_not_sent(f"endpoints.{name}", endpoint, sources):
                raise ValueError(refusal)
        return self

    @model_validator(mode="after")
    def general_is_one_place(self) -> Recipe:
        if self.evaluate.general is not None and "general" in self.data.transfer:
            raise ValueError("data.transfer.general has the name of what evaluate.general asks; choose another")
        return self

    @property
    def places(self) -> dict[str, DataSource]:
        """Returns the transfer sets by name: those of `data.transfer`, and general questions."""
        asked = self.evaluate.general
        if asked is None:
            return self.data.transfer
        synthetic = DataSource(synthetic=Synthetic(family="general", n=asked.n, seed=asked.seed))
        return {**self.data.transfer, "general": asked.source or synthetic}

    @model_validator(mode="after")
    def samples_differ(self) -> Recipe:
        if self.evaluate.probabilities == "samples" and self.decoding.temperature == 0:
            raise ValueError(
                "evaluate.probabilities=samples needs answers that differ; raise decoding.temperature above 0"
            )
        if self.evaluate.repeats and self.decoding.temperature == 0:
            raise ValueError("evaluate.repeats needs answers that differ; raise decoding.temperature above 0")
        return self


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies `dotted.key=value` overrides. Raises InputError with one
    sentence."""
    path = find_recipe(path)
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise InputError(f"{path} is not a recipe: it should be a mapping that starts with `data:` and `model:`.")
    for override in overrides:
        apply_override(tree, override)
        key, _, value = override.partition("=")
        refuse_odd_numbers(value, f"The override {key[:80]}")
    refuse_odd_numbers(read_text(path), str(path))
    recipe = parse_recipe(tree, source=str(path))
    return _with_paths_from(recipe, path.parent)


def parse_recipe(tree: dict[str, Any], source: str = "recipe") -> Recipe:
    return parse_section(Recipe, tree, source)


def parse_section(kind: type[S], tree: Mapping[str, Any], source: str) -> S:
    """Validates a recipe or a part of it. Raises InputError with one sentence that begins with
    `source`.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error.errors(), kind.model_json_schema())}") from None


def recipe_digest(recipe: Recipe) -> str:
    """Returns a digest of all that is part of the result; `cluster` and `data.online` are not."""
    tree = recipe.model_dump(mode="json", exclude={"cluster"})
    tree["data"]["online"] = False
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def differing_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Returns the dotted names of keys whose values differ, for the message that refuses a
    resume."""
    names = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            names += differing_keys(before, after, f"{prefix}{key}.")
        elif before != after:
            names.append(f"{prefix}{key}")
    return names


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Puts `dotted.key=value` into a tree; the value is YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        shown = f"'{override}'" if re.fullmatch(r"[\w./=-]{1,60}", override) else "An argument"
        raise InputError(f"{shown} is not an override; write key=value, for example rlvr.steps=20.")
    value = yaml_value(text, f"The value of the override {key[:80]}")
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        child = node.get(parent)
        if not isinstance(child, dict):
            child = node[parent] = {}
        node = child
    node[last] = value


def _with_paths_from(recipe: Recipe, folder: Path) -> Recipe:
    """Makes file paths absolute: relative to the recipe if the file is there, else to the working
    directory. A model may also be one that ships."""

    def located(text: str | Path, *more: Path) -> str:
        path = user_path(text)
        for base in (folder, Path.cwd(), *more):
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
            changes["trials"] = files.model_copy(
                update={**there, "trials": [Path(located(path)) for path in files.trials]}
            )
        if value.table is not None:
            changes["table"] = value.table.model_copy(update={"path": Path(located(value.table.path))})
        if value.ehr is not None:
            given = {name: getattr(value.ehr, name) for name in ("meds", "labels", "aces", "ehrshot")}
            there = {name: Path(located(path)) for name, path in given.items() if path is not None}
            changes["ehr"] = value.ehr.model_copy(update=there)
        return value.model_copy(update=changes)

    splits = {name: source(getattr(recipe.data, name)) for name in ("train", "tuning", "held_out")}
    data = recipe.data.model_copy(
        update={**splits, "transfer": {name: source(more) for name, more in recipe.data.transfer.items()}}
    )
    evaluate, model = recipe.evaluate, recipe.model
    if evaluate.general is not None and evaluate.general.source is not None:
        general = evaluate.general.model_copy(update={"source": source(evaluate.general.source)})
        evaluate = evaluate.model_copy(update={"general": general})
    if model.name is not None:
        model = model.model_copy(update={"name": located(model.name, shipped_folder())})
    return recipe.model_copy(update={"data": data, "model": model, "evaluate": evaluate})
