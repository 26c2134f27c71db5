"""Models: the base model of a run, engines that open models, and the model that a user names for
prediction or export."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from ehrmind.config import Recipe, parse_recipe, split_arm
from ehrmind.engines import Engine
from ehrmind.runs import Run
from ehrmind.runs.records.exported import ExportedModel
from ehrmind.stages.digests import refuse_changed
from ehrmind.stages.provenance import at_commit, commit_at, commit_of, dated, day_of, digests_of
from ehrmind.types import Case, InputError
from ehrmind.world import current, threads_of_each

OpenEngine = Callable[[Recipe, Path], Engine]
Locate = Callable[[Recipe], Path]
STARTS_FROM = {"rlvr": "base", "sft_rlvr": "sft"}  # arms of RLVR, and the model that each starts from

ABOUT = "ehrmind.json"  # in an exported directory
RESTRICTED_SETS = ("EHRSHOT",)  # restricted by their makers' agreement, whichever file the cases came from
PREFERRED = ("sft_rlvr", "rlvr", "sft", "base")


def models_of(recipe: Recipe) -> set[str]:
    """The models that the arms need."""
    return {split_arm(arm)[0] for arm in recipe.arms}


def open_local(recipe: Recipe, folder: Path) -> Engine:
    """Opens a model directory under a recipe."""
    from ehrmind.engines.local.engine import open_engine

    limits = {"rows": recipe.sampler_rows, "tokens": recipe.sampler_tokens}
    engine = open_engine(
        recipe.model, folder, **limits, seed=recipe.seed, shards=recipe.shards, strategy=recipe.cluster.strategy
    )
    if models_of(recipe) != {"base"}:
        engine.refuse_to_learn()  # before the pilot, not after it
    return engine


def refuse_unusable(recipe: Recipe, base: Path) -> None:
    """Refuses a base model that the local engine cannot use. Opens no weights."""
    from ehrmind.engines.local.engine import refuse_unusable as refuse

    refuse(recipe.model, base)


def locate_base(recipe: Recipe) -> Path:
    """The directory of the recipe's named model; downloads it if the recipe allows that."""
    from ehrmind.engines.local.hub_model import locate

    return locate(recipe.model, online=recipe.data.online)


def agreed_commit(recipe: Recipe, run: Run, ask: Callable[[str], None], *, here: bool) -> str | None:
    """Has a person asked before the recipe's model is downloaded, and downloads it if it is used
    `here`.

    `ask` gets one line and raises unless it is agreed to. Returns the commit that the run takes:
    its own if it is resumed, else the one that the hub names now; None if the model comes from no
    hub. Raises InputError.
    """
    name = recipe.model.name
    if not recipe.data.online or name is None or Path(name).is_dir():
        return None
    from ehrmind.engines.local.hub_model import download, find_on_hub

    found = find_on_hub(at_commit(recipe, commit_of(run)).model)
    if found.missing:
        ask(found.line())
        if here:
            download(found)
    return found.commit


def locate_at(commit: str | None) -> Locate:
    """Returns `locate_base` for one commit of the recipe's hub model; None leaves the recipe's."""
    return lambda recipe: locate_base(at_commit(recipe, commit))


def model_folders(run: Run, recipe: Recipe, locate: Locate) -> dict[str, Path]:
    """The directory of every model. The base model is located, or built if the recipe asks for a
    tiny one. A resumed run takes the commit of a hub model that it began with."""
    if recipe.model.tiny is None:
        pinned = at_commit(recipe, current().from_first(lambda: commit_of(run)))
        first = current().from_first(lambda: str(locate(pinned)))  # downloads once on each machine
        base = locate(at_commit(pinned, commit_at(Path(first))))
    else:
        current().from_first(lambda: _build_base(run, recipe))
        base = run.model("base")
    return {"base": base} | {arm: run.model(arm) for arm in ("sft", *STARTS_FROM)}


def _build_base(run: Run, recipe: Recipe) -> None:
    assert recipe.model.tiny is not None
    if run.done("model") is None:
        from ehrmind.data.synthetic import synthetic_cases
        from ehrmind.data.synthetic.trials import synthetic_trials
        from ehrmind.engines.local.tiny import build_tiny
        from ehrmind.prompts import gold_response, messages

        cases = [*synthetic_cases(1500, seed=0, split="train"), *synthetic_trials(500, seed=0, split="train")]
        text = [messages(case)[0].content + gold_response(case) for case in cases]
        with run.stage("model") as facts:
            run.keep_model("base", partial(build_tiny, recipe.model.tiny, text, seed=recipe.seed))
            facts["built"] = recipe.model.tiny.family


def share_machine(shards: int, threads: int | None) -> None:
    """Divides the workers by `shards`, and sets CPU threads: `threads`, or a fair part where
    workers share a machine."""
    current().block(shards)
    if (found := threads or threads_of_each()) is not None:
        import torch

        torch.set_num_threads(found)


@dataclass(frozen=True)
class Chosen:
    """A model that a user named. `asks` is a tree of settings for `config.Predict`; `stop` are
    words that end a turn if no token does."""

    folder: Path
    name: str
    arm: str | None = None
    asks: Mapping[str, JsonValue] = field(default_factory=dict)
    run: Run | None = None
    recipe: Recipe | None = None
    stop: str = ""


def choose(where: Path, arm: str | None = None) -> Chosen:
    """Finds the model of a run folder's arm, or of a model directory. Raises InputError if there is
    none."""
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
    about = about_model(where) or ExportedModel()
    refuse_changed(f"The model in {where}", "exported there", about.sha256, where, "export it again")
    return Chosen(where, where.resolve().name, asks=about.asks, stop=about.stop)


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
    return base_here(at_commit(recipe, commit_of(run)))


def base_here(recipe: Recipe) -> Path:
    """The base model of a recipe, for commands that download nothing. Raises InputError."""
    from ehrmind.engines.local.hub_model import locate

    try:
        return locate(recipe.model, online=False)
    except InputError:
        revision = f" --revision {recipe.model.revision}" if recipe.model.revision else ""
        raise InputError(
            f"{recipe.model.name}, from which the run starts, is neither a directory nor in the hub's cache of this"
            f" machine; fetch it with `hf download {recipe.model.name}{revision}`, or name another arm or model."
        ) from None


def asks_of(recipe: Recipe) -> dict[str, JsonValue]:
    """How a recipe asks, as settings for prediction. Leaves out what only training needs."""
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


def about_model(folder: Path) -> ExportedModel | None:
    """Reads the ehrmind.json of an exported directory; None if there is none. Raises InputError if
    it is broken."""
    file = folder / ABOUT
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file} is not JSON as `ehrmind export model` writes it; export the model again.")
    return ExportedModel.from_dict(found, str(file))


def is_marked(case: Case) -> bool:
    """Whether a case must stay on this machine, by its own mark or its data set's."""
    return bool(case.provenance.get("restricted")) or case.provenance.get("dataset") in RESTRICTED_SETS
