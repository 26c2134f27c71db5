"""The model that a person names: a run folder's arm, or a model directory; and how its training asked, which prediction keeps to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ehrmind.config import Recipe, parse_recipe
from ehrmind.runs import Run
from ehrmind.types import Case, InputError

ABOUT = "ehrmind.json"  # in an exported directory: what it was trained on, and how it was asked
RESTRICTED_SETS = ("EHRSHOT",)  # by their makers' agreement, whatever file their cases came from
PREFERRED = ("sft_rlvr", "rlvr", "sft", "base")
DECIDING = (  # what an answer depends on: weights, where an answer ends, text to tokens and back, messages to text
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"),
    *(
        "tokenizer*",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab*",
        "merges.txt",
        "*.model",
        "tekken.json",
        "*.tiktoken",
    ),
    *("chat_template*", "additional_chat_templates/*", "adapter_config.json"),
)


@dataclass(frozen=True)
class Chosen:
    """`asks` is a tree of settings for `config.Predict`; `recipe` that of a run; `stop` are words that end a turn where no token does."""

    folder: Path
    name: str
    arm: str | None = None
    asks: Mapping[str, Any] = field(default_factory=dict)
    run: Run | None = None
    recipe: Recipe | None = None
    stop: str = ""


def choose(where: Path, arm: str | None = None) -> Chosen:
    """Raises InputError where there is no such model."""
    if (where / "recipe.yaml").is_file():
        return _of_run(where, arm)
    if arm is not None:
        raise InputError(f"{where} is no run folder, so it has no arm {arm}; leave --arm out, or name the run.")
    if (where / "adapter_config.json").is_file() and not (where / "config.json").is_file():
        raise InputError(
            f"{where} holds an adapter alone; merge it first: `ehrmind export model {where} --merge --out DIR`."
        )
    if not (where / "config.json").is_file():
        raise InputError(
            f"{where} is neither a run folder nor a model directory (no config.json); name one of the two."
        )
    about = about_model(where)
    refuse_changed(f"The model in {where}", "exported there", about.get("sha256", {}), where, "export it again")
    return Chosen(where, where.resolve().name, asks=about.get("asks", {}), stop=about.get("stop", ""))


def _of_run(where: Path, arm: str | None) -> Chosen:
    run = Run(where)
    if parts := run.seeds():
        raise InputError(f"{where} pools {len(parts)} seeds; name the run of one, such as {parts[0].path}.")
    recipe = parse_recipe(run.recipe(), source=str(where / "recipe.yaml"))
    if run.done("purged") is not None:
        raise InputError(f"{where} was purged: its models are gone; run its recipe again into a new folder.")
    there = [name for name in PREFERRED if _is_there(run, recipe, name)]
    if arm is not None and arm not in there:
        hint = f"it has {', '.join(there)}" if there else "it has none yet; run its recipe first"
        raise InputError(f"{where} has no model of the arm '{arm[:40]}'; {hint}.")
    if not there:
        raise InputError(f"{where} has no model yet; run its recipe first.")
    chosen = arm or there[0]
    folder, pinned = _folder(run, recipe, chosen), dated(recipe, day_of(run))
    run.prove_model(chosen)
    refuse_changed(f"The arm {chosen} of {where}", "the run's", digests_of(run, chosen), folder, "put that back")
    return Chosen(folder, f"{where.resolve().name}/{chosen}", chosen, asks_of(pinned), run, recipe)


def _is_there(run: Run, recipe: Recipe, arm: str) -> bool:
    return (run.model(arm) / "config.json").is_file() or (arm == "base" and recipe.model.name is not None)


def _folder(run: Run, recipe: Recipe, arm: str) -> Path:
    if (run.model(arm) / "config.json").is_file():
        return run.model(arm)
    return base_here(recipe)


def base_here(recipe: Recipe) -> Path:
    """The model that a run starts from, for commands that download nothing. Raises InputError."""
    from ehrmind.engines.local.engine import locate

    try:
        return locate(recipe.model, online=False)
    except InputError:
        revision = f" --revision {recipe.model.revision}" if recipe.model.revision else ""
        raise InputError(
            f"{recipe.model.name}, from which the run starts, is neither a directory nor in the hub's cache of this machine; fetch it with "
            f"`hf download {recipe.model.name}{revision}`, or name another arm or model."
        ) from None


def asks_of(recipe: Recipe) -> dict[str, Any]:
    """How a recipe asks, as settings for prediction; what only training needs is left out."""
    model = recipe.model.model_copy(update={"name": "model", "tiny": None, "lora": None, "revision": None})
    return {
        "seed": recipe.seed,
        "model": model.model_dump(mode="json"),
        "prompts": recipe.prompts.model_dump(mode="json"),
        "decoding": recipe.decoding.model_dump(mode="json"),
        "sampler_rows": recipe.sampler_rows,
        "sampler_tokens": recipe.sampler_tokens,
        "shards": recipe.shards,
        "threads": recipe.threads,
    }


def about_model(folder: Path) -> dict[str, Any]:
    """What an exported directory says of itself; {} where it says nothing. Raises InputError where it is broken."""
    file = folder / ABOUT
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file} is not JSON as `ehrmind export model` writes it; export the model again.")
    return found


def is_marked(case: Case) -> bool:
    """Whether a case never leaves this machine, by its own mark or by its data set's."""
    return bool(case.provenance.get("restricted")) or case.provenance.get("dataset") in RESTRICTED_SETS


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file that an answer depends on."""
    found = {}
    files = {*_named_weights(folder), *(path for pattern in DECIDING for path in folder.glob(pattern))}
    for path in sorted(path for path in files if path.is_file()):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _named_weights(folder: Path) -> Iterator[Path]:
    """Files inside the directory that an index or the config names as weights, in a folder of it too. What is wrong with them is said
    when the model is opened."""
    for file in (folder / "config.json", *folder.glob("*.safetensors.index.json")):
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
            named = {tree.get("transformers_weights"), *(tree.get("weight_map") or {}).values()}
        except (OSError, ValueError, RecursionError, AttributeError, TypeError):
            continue
        yield from (
            folder / name
            for name in named
            if isinstance(name, str) and ".." not in Path(name).parts and not Path(name).is_absolute()
        )


def digests_of(run: Run, arm: str) -> Mapping[str, str]:
    """Reads the digests of an arm's model from the run; {} if it has none yet."""
    if arm == "base":
        return ((run.read_json("provenance.json") or {}).get("model") or {}).get("sha256") or {}
    found: Mapping[str, str] = (run.done("warmup" if arm == "sft" else f"rlvr-{arm}") or {}).get("model_sha256", {})
    return found


def refuse_changed(which: str, whose: str, before: Mapping[str, str], folder: Path, remedy: str) -> None:
    """Refuses a model if a file that decides answers has changed; where nothing was recorded,
    nothing is compared."""
    if before and (changed := differing_files(before, digests(folder))):
        raise InputError(f"{which} is not {whose}: {', '.join(changed)} changed; {remedy}.")


def differing_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of files whose digests differ. A record of an earlier version names the weights alone: then only these are compared."""
    alone = all(name.endswith(".safetensors") for name in before)
    names = {name for name in before.keys() | now.keys() if not alone or name.endswith(".safetensors")}
    return sorted(name for name in names if before.get(name) != now.get(name))


def day_of(run: Run) -> date | None:
    """The day that the run's prompts are written for."""
    day = (run.read_json("provenance.json") or {}).get("date")
    return None if day is None else date.fromisoformat(day)


def dated(recipe: Recipe, day: date | None) -> Recipe:
    """The recipe with the day that its run pinned."""
    return recipe if day is None else recipe.model_copy(update={"model": recipe.model.model_copy(update={"date": day})})
