"""The pipeline: every stage a recipe asks for, in order; what is done is skipped, what was interrupted goes on.

data -> base model -> pilot -> warm-up (sft) -> RLVR from base (rlvr) and from sft (sft_rlvr) -> evaluate every arm -> results.json
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from ehrmind.config import Model, Recipe, recipe_digest, split_arm
from ehrmind.engines import Engine
from ehrmind.runs import Run, open_run
from ehrmind.runs.lock import writes_into
from ehrmind.stages.data import prepare_data
from ehrmind.stages.evaluation.baseline import boosted_counts
from ehrmind.stages.evaluation.contamination import check_contamination
from ehrmind.stages.evaluation.endpoints import check_endpoints, evaluate_endpoint
from ehrmind.stages.evaluation.evaluate import evaluate, stage_of
from ehrmind.stages.evaluation.label_predictions import write_predictions
from ehrmind.stages.evaluation.repeated import REPEATED
from ehrmind.stages.evaluation.results import write_results
from ehrmind.stages.evaluation.samples import SAMPLES, with_labels
from ehrmind.stages.evaluation.variants import scorings_of
from ehrmind.stages.models import dated, digests
from ehrmind.stages.pilot.pilot import pilot
from ehrmind.stages.pilot.plan import compare_gains, make_plan, planned
from ehrmind.stages.provenance import advice_of, record_provenance, refuse_changed_arms
from ehrmind.stages.rlvr.extra_rewards import load_rewards
from ehrmind.stages.rlvr.loop import refuse_early, rlvr
from ehrmind.stages.round_trip import refuse_lost_answers
from ehrmind.stages.warmup.warmup import warmup, warn_of_bare_answers
from ehrmind.tracking import write_tensorboard
from ehrmind.types import InputError
from ehrmind.world import current, on_first, threads_of_each, workers_here

OpenEngine = Callable[[Recipe, Path], Engine]
STARTS_FROM = {"rlvr": "base", "sft_rlvr": "sft"}
VERSIONS = ("ehrmind", "torch", "transformers", "peft", "tokenizers", "numpy", "polars", "es-aces", "openai")


def open_local(recipe: Recipe, folder: Path) -> Engine:
    """The engine of a model directory under a recipe."""
    from ehrmind.engines.local.engine import open_engine

    limits = {"rows": recipe.sampler_rows, "tokens": recipe.sampler_tokens}
    engine = open_engine(
        recipe.model, folder, **limits, seed=recipe.seed, shards=recipe.shards, strategy=recipe.cluster.strategy
    )
    if models_of(recipe) != {"base"}:
        engine.refuse_to_learn()  # before the pilot, not after it
    return engine


def _refuse_unusable(recipe: Recipe, base: Path) -> None:
    from ehrmind.engines.local.engine import refuse_unusable

    refuse_unusable(recipe.model, base)


def models_of(recipe: Recipe) -> set[str]:
    """The models that the arms need."""
    return {split_arm(arm)[0] for arm in recipe.arms}


def say_memory(run: Run, recipe: Recipe, folder: Path, wanted: tuple[str, ...]) -> None:
    """Say what the stages to come will need of every worker, and refuse a run that cannot fit. Says nothing of a finished run or of a model
    whose configuration is of a kind not known."""
    from ehrmind.engines.local.memory import estimate, memory_of, refuse_what_cannot_fit, shape_of

    shape, world = shape_of(folder, recipe.model), current()
    if shape is None or run.read_json("results.json") is not None:
        return
    models = models_of(recipe)
    warms = "warmup" in wanted and bool({"sft", "sft_rlvr"} & models) and run.done("warmup") is None
    reinforces = "rlvr" in wanted and any(arm in models and run.done(f"rlvr-{arm}") is None for arm in STARTS_FROM)
    found = estimate(shape, recipe, warmup=warms, rlvr=reinforces, workers=world.size)
    available = min(world.gather(memory_of(shape.device) // (workers_here() if shape.device == "cpu" else 1)))
    who = f", every one of {world.size} workers" if world.size > 1 else ""
    if world.first:
        sys.stderr.write(
            f"memory (estimate{who}): {found}; the {shape.device} has {available / 2**30:.1f} GiB for it\n"
        )
    refuse_what_cannot_fit(found, recipe, available)


@writes_into("out")
def run_pipeline(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    stages: tuple[str, ...] | None = None,
    open_engine: OpenEngine = open_local,
    began: date | None = None,
) -> Run:
    """Run `stages` of a recipe (all when None: pilot, warmup, rlvr, evaluate) into the folder `out`. A new run is pinned to the day
    `began`, today unless told otherwise."""
    world = current()
    world.block(recipe.shards)
    if (threads := recipe.threads or threads_of_each()) is not None:
        import torch

        torch.set_num_threads(threads)
    wanted = stages or ("pilot", "warmup", "rlvr", "evaluate")
    world.from_first(lambda: check_endpoints(recipe, wanted))
    if "rlvr" in wanted:
        load_rewards(recipe.reward.extra)  # by each worker, before there is a folder
    run = open_run(out, recipe, resume=resume)
    splits = prepare_data(run, recipe)
    if "rlvr" in wanted:
        refuse_early(recipe, splits["train"])
    if world.first and "warmup" in wanted and recipe.stages == "all" and {"sft", "sft_rlvr"} & models_of(recipe):
        warn_of_bare_answers(recipe, splits["train"])
    folders = {"base": base_model(run, recipe)} | {arm: run.model(arm) for arm in ("sft", *STARTS_FROM)}
    if open_engine is open_local:
        _refuse_unusable(recipe, folders["base"])
    day = world.from_first(
        lambda: record_provenance(run, provenance(run, recipe, folders["base"]), recipe.model.date or began)
    )
    recipe = dated(recipe, date.fromisoformat(day))
    if open_engine is open_local:
        refuse_lost_answers(folders["base"], recipe, splits["train"])
        world.from_first(lambda: refuse_changed_arms(run, folders))
        say_memory(run, recipe, folders["base"], wanted)
    diagnosis: dict[str, Any] | None = None
    if "pilot" in wanted and (diagnosis := run.done("pilot")) is None:
        with run.stage("pilot") as facts:
            facts |= pilot(run, recipe, open_engine(recipe, folders["base"]), splits["train"])
        diagnosis = run.done("pilot")
    if diagnosis is not None:
        if run.read_json("pilot.json") is None:  # it was damaged
            run.write_json("pilot.json", {name: found for name, found in diagnosis.items() if name != "seconds"})
        recipe = _follow(run, recipe, diagnosis, splits["train"])
    models = models_of(recipe)
    if "warmup" in wanted and {"sft", "sft_rlvr"} & models and run.done("warmup") is None:
        with run.stage("warmup") as facts:
            facts |= warmup(run, recipe, open_engine(recipe, folders["base"]), splits["train"], diagnosis)
            facts["model_sha256"] = world.from_first(partial(digests, folders["sft"]))
    for arm, start in STARTS_FROM.items():
        if "rlvr" in wanted and arm in models and run.done(f"rlvr-{arm}") is None:
            with run.stage(f"rlvr-{arm}") as facts:
                facts |= rlvr(run, recipe, open_engine(recipe, folders[start]), arm, splits["train"], splits["tuning"])
                facts["model_sha256"] = world.from_first(partial(digests, folders[arm]))
    if "evaluate" in wanted:
        scorings = _scorings(recipe, splits)
        _evaluate_all(run, recipe, folders, splits, scorings, open_engine)
        world.from_first(lambda: _put_together(run, recipe, splits, scorings))
    if recipe.tracking.tensorboard:
        world.from_first(lambda: write_tensorboard(run))
    return run


def _follow(run: Run, recipe: Recipe, diagnosis: dict[str, Any], train: Any) -> Recipe:
    """The plan is made once, written, and followed where the recipe says so."""
    if run.read_json("plan.json") is None:
        run.write_json("plan.json", make_plan(recipe, diagnosis, train))
    return planned(recipe, run.read_json("plan.json"))


def _compare_gains(run: Run) -> None:
    """Predicted against obtained, where there were a pilot and RLVR from the base."""
    plan, diagnosis, results = (run.read_json(f"{name}.json") for name in ("plan", "pilot", "results"))
    if (
        plan is not None
        and diagnosis is not None
        and results is not None
        and (gains := compare_gains(plan, diagnosis, results))
    ):
        run.write_json("gains.json", gains)


def _scorings(recipe: Recipe, splits: dict[str, Any]) -> list[tuple[str, str]]:
    """Held-out cases under every decoding, those elsewhere under the first; further samples where probabilities are theirs."""
    transfer = [name for name in splits if name.startswith("transfer-")]
    scorings: list[tuple[str, str]] = [("held_out", decoding) for decoding in recipe.evaluate.decodings]
    scorings += [(where, recipe.evaluate.decodings[0]) for where in transfer]
    if recipe.evaluate.probabilities == SAMPLES:
        scorings += [(where, SAMPLES) for where in ("held_out", *transfer) if with_labels(splits[where])]
    if recipe.evaluate.repeats:
        scorings.append(("held_out", REPEATED))
    return scorings


def _evaluate_all(
    run: Run,
    recipe: Recipe,
    folders: dict[str, Path],
    splits: dict[str, Any],
    scorings: list[tuple[str, str]],
    open_engine: OpenEngine,
) -> None:
    for arm in recipe.arms:
        model, variant_name = split_arm(arm)
        for where, decoding in scorings_of(variant_name, scorings):
            stage = stage_of(arm, decoding, where)
            if run.done(stage) is None:
                if not _is_model(folders[model]):
                    raise InputError(f"The arm {model} is not trained in this run; run the whole recipe first.")
                with run.stage(stage) as facts:
                    engine = open_engine(recipe, folders[model])
                    facts |= evaluate(run, recipe, engine, arm, decoding, splits[where], where, splits["train"])


def _put_together(run: Run, recipe: Recipe, splits: dict[str, Any], scorings: list[tuple[str, str]]) -> None:
    """What needs no model here: endpoints asked, contamination looked for, everything put side by side."""
    for name in recipe.endpoints:
        for where, decoding in scorings:
            if run.done(stage := stage_of(name, decoding, where)) is None:
                with run.stage(stage) as facts:
                    facts |= evaluate_endpoint(run, recipe, name, decoding, splits[where], where)
    if run.done("contamination") is None:
        with run.stage("contamination"):
            check_contamination(run, splits)
    if run.read_json("results.json") is None:
        transfer = [name for name in splits if name.startswith("transfer-")]
        marks = {stage: run.done(stage) or {} for stage in run.finished()}
        seconds = {name: facts.get("seconds", 0.0) for name, facts in marks.items()}
        named = {where.removeprefix("transfer-"): splits[where] for where in transfer}
        write_results(run, recipe, splits["held_out"], seconds, named, _baselines(run, recipe, splits), splits["train"])
    _compare_gains(run)


@on_first
def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _baselines(run: Run, recipe: Recipe, splits: dict[str, Any]) -> dict[str, Any]:
    """Computed once, where there are coded histories."""
    if not recipe.evaluate.baseline or not any(case.family == "ehr" for case in splits["held_out"]):
        return {}
    mark = run.done("baseline")
    if mark is None:
        with run.stage("baseline") as facts:
            before = recipe.prompts.history.strictly_before
            boosted = boosted_counts(splits["train"], splits["held_out"], seed=recipe.seed, strictly_before=before)
            for predicted in boosted.values():
                write_predictions(run, "gradient_boosting", *predicted)
            facts["gradient_boosting"] = {name: predicted.measures() for name, predicted in boosted.items()}
        mark = run.done("baseline") or {}
    return {"gradient_boosting": mark["gradient_boosting"]} if mark["gradient_boosting"] else {}


def base_model(run: Run, recipe: Recipe) -> Path:
    """The directory that all arms start from: the named model's, or a tiny one built here."""
    if recipe.model.tiny is None:
        from ehrmind.engines.local.engine import locate

        current().from_first(
            lambda: str(locate(recipe.model, online=recipe.data.online))
        )  # one downloads, on every machine once
        return locate(recipe.model, online=recipe.data.online)
    current().from_first(lambda: _build_base(run, recipe))
    return run.model("base")


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


def provenance(run: Run, recipe: Recipe, base: Path) -> dict[str, Any]:
    """What a figure of this run depends on: shareable, so no absolute path and nothing of a record."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "recipe_digest": recipe_digest(recipe),
        "seed": recipe.seed,
        "data": {key: value for key, value in (run.done("data") or {}).items() if key != "seconds"},
        "model": {
            "name": _shown(recipe.model, base),
            "revision": _revision(recipe.model, base),
            "sha256": digests(base),
            **advice_of(base),
            **_dropped(base),
        },
        "versions": {"python": sys.version.split()[0], **versions},
        "platform": platform.machine(),
    }


def _dropped(base: Path) -> dict[str, Any]:
    """The dropout of the model's config, which is off here."""
    from ehrmind.engines.local.dropout import dropout_of

    return {"dropout_set_to_0": found} if (found := dropout_of(base)) else {}


def _shown(model: Model, base: Path) -> str:
    return base.name if model.name is None or Path(model.name).is_dir() else model.name


def _revision(model: Model, base: Path) -> str | None:
    """A hub model's commit: the hub's cache names its folders by it."""
    return (
        base.name
        if model.name is not None and not Path(model.name).is_dir() and base.parent.name == "snapshots"
        else model.revision
    )
