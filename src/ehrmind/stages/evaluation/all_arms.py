"""All arms: each is scored on every test set and decoding that the recipe asks for; then
results.json puts them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ehrmind.config import split_arm
from ehrmind.runs.records import StageKey
from ehrmind.stages.context import StageContext
from ehrmind.stages.evaluation.baselines import STAGE, run_baselines
from ehrmind.stages.evaluation.contamination import check_contamination, read_contamination
from ehrmind.stages.evaluation.endpoints import evaluate_endpoint
from ehrmind.stages.evaluation.evaluate import evaluate
from ehrmind.stages.evaluation.repeated import REPEATED
from ehrmind.stages.evaluation.results import write_results
from ehrmind.stages.evaluation.samples import SAMPLES, with_labels
from ehrmind.stages.evaluation.variants import scorings_of
from ehrmind.stages.models import OpenEngine
from ehrmind.stages.pilot.following import write_gains
from ehrmind.types import InputError
from ehrmind.world import on_first


def scorings(context: StageContext) -> list[tuple[str, str]]:
    """(split, decoding) pairs: held-out cases under every decoding, transfer sets under the first.
    Further samples are added where probabilities come from them."""
    splits, asked = context.splits, context.recipe.evaluate
    transfer = [f"transfer-{name}" for name in context.transfer]
    found: list[tuple[str, str]] = [("held_out", decoding) for decoding in asked.decodings]
    found += [(where, asked.decodings[0]) for where in transfer]
    if asked.probabilities == SAMPLES:
        found += [(where, SAMPLES) for where in ("held_out", *transfer) if with_labels(splits[where])]
    if asked.repeats:
        found.append(("held_out", REPEATED))
    return found


def evaluate_arms(context: StageContext, folders: Mapping[str, Path], open_engine: OpenEngine) -> None:
    """Scores every arm of the recipe. Skips what is scored already."""
    run, recipe = context.run, context.recipe
    for arm in recipe.arms:
        model, variant_name = split_arm(arm)
        for where, decoding in scorings_of(variant_name, scorings(context)):
            stage = str(StageKey.scoring(arm, decoding, where))
            if run.done(stage) is None:
                if not _is_model(folders[model]):
                    raise InputError(f"The arm {model} is not trained in this run; run the whole recipe first.")
                with run.stage(stage) as facts:
                    facts |= evaluate(context, open_engine(recipe, folders[model]), arm, decoding, where).to_dict()


@on_first
def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def finish_evaluation(context: StageContext) -> None:
    """Asks the endpoints, checks contamination and writes results.json. Opens no model."""
    run, recipe = context.run, context.recipe
    for name in recipe.endpoints:
        for where, decoding in scorings(context):
            if run.done(stage := str(StageKey.scoring(name, decoding, where))) is None:
                with run.stage(stage) as facts:
                    facts |= evaluate_endpoint(context, name, decoding, where).to_dict()
    if run.done("contamination") is None:
        with run.stage("contamination"):
            check_contamination(context)
    if run.read_json("results.json") is None:
        if recipe.evaluate.baseline and run.done(STAGE) is None:
            run_baselines(context)
        seconds = {stage: float((run.done(stage) or {}).get("seconds", 0.0)) for stage in run.finished()}
        write_results(context, read_contamination(run), seconds)
    write_gains(run)
