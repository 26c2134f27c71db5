"""Reads the shareable records of a finished run folder, from which every page is made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ehrmind.config import VOTING, Recipe, parse_recipe, split_arm
from ehrmind.runs import Run
from ehrmind.runs.records import (
    Alarm,
    Diagnosis,
    Gains,
    Plan,
    Provenance,
    Results,
    Review,
    RlvrMark,
    ScoringMark,
    StageKey,
    StepMetrics,
    WarmupMark,
)
from ehrmind.types import InputError

Metrics = Mapping[str, Sequence[StepMetrics]]


@dataclass(frozen=True)
class Training:
    """The training of a run, finished or not. `metrics` are by stage, `rlvr` are marks by arm."""

    arms: Sequence[str]
    metrics: Metrics
    alarms: Sequence[Alarm]
    rlvr: Mapping[str, RlvrMark]

    def curves(self) -> Metrics:
        """The metrics of RLVR by arm."""
        return {StageKey.parse(stage).arm: self.metrics[stage] for stage in sorted(self.metrics) if _is_rlvr(stage)}


@dataclass(frozen=True)
class Piloted:
    """A pilot without record text. `pilot` and `plan` are None after an evaluation alone, and
    `provenance` too where several seeds are pooled."""

    recipe: Recipe
    pilot: Diagnosis | None
    plan: Plan | None
    provenance: Provenance | None


@dataclass(frozen=True)
class Figures(Piloted, Training):
    """A finished run without record text.

    `scored` has the marks of the first decoding by arm. `gains` is None without a pilot.
    """

    results: Results
    scored: Mapping[str, ScoringMark]
    warmup: WarmupMark | None
    gains: Gains | None
    review: Review | None


def read_pilot(run: Run) -> Piloted | None:
    """Reads a run of which nothing but a pilot was asked; None for another. Raises InputError for a
    misfit file."""
    if not (run.path / "provenance.json").is_file() or (run.path / "results.json").is_file():
        return None
    provenance = run.read_record("provenance.json", Provenance)
    found = run.read_record("pilot.json", Diagnosis)
    if provenance is None or provenance.stages != ("pilot",) or found is None:
        return None
    recipe = parse_recipe(run.recipe(), str(run.path / "recipe.yaml"))
    return Piloted(recipe, found, run.read_record("plan.json", Plan), provenance)


def read_run(run: Run) -> Figures:
    """Raises InputError for a folder that is no run, an unfinished run, or a misfit file."""
    if not any((run.path / name).is_file() for name in ("recipe.yaml", "manifest.json")):
        raise InputError(f"{run.path} is no run folder; `ehrmind runs list FOLDER` shows those there are.")
    results = run.read_record("results.json", Results) if (run.path / "results.json").is_file() else None
    recipe = parse_recipe(run.recipe(), str(run.path / "recipe.yaml"))
    plan = run.read_record("plan.json", Plan)
    finished = run.finished()
    if results is None:
        expected = (str(stage) for stage in expected_stages(recipe, plan))
        missing = next((stage for stage in expected if stage not in finished), "the comparison of the arms")
        raise InputError(f"{run.path} is not finished: {missing} is missing; go on with `ehrmind resume {run.path}`.")
    scored = {arm: run.mark(str(StageKey.scoring(arm, results.decoding)), ScoringMark) for arm in results.arms}
    return Figures(
        arms=list(results.arms),
        metrics=by_stage(run.metrics()),
        alarms=results.alarms,
        rlvr=rlvr_marks(run, finished),
        recipe=recipe,
        results=results,
        scored={arm: mark for arm, mark in scored.items() if mark is not None},
        warmup=run.mark("warmup", WarmupMark),
        pilot=run.read_record("pilot.json", Diagnosis),
        plan=plan,
        gains=run.read_record("gains.json", Gains),
        provenance=run.read_record("provenance.json", Provenance),
        review=run.read_record("review.json", Review),
    )


def by_stage(metrics: Sequence[StepMetrics]) -> Metrics:
    """The metrics of every stage, in order of steps."""
    found: dict[str, list[StepMetrics]] = defaultdict(list)
    for row in metrics:
        found[row.stage].append(row)
    return {stage: sorted(rows, key=lambda row: row.step) for stage, rows in found.items()}


def rlvr_marks(run: Run, finished: Sequence[str]) -> dict[str, RlvrMark]:
    """The marks of finished RLVR stages by arm."""
    marks = {StageKey.parse(stage).arm: run.mark(stage, RlvrMark) for stage in sorted(finished) if _is_rlvr(stage)}
    return {arm: mark for arm, mark in marks.items() if mark is not None}


def _is_rlvr(stage: str) -> bool:
    return StageKey.parse(stage).kind == "rlvr"


def expected_stages(recipe: Recipe, plan: Plan | None = None) -> Iterator[StageKey]:
    """The stages of a whole run, in order; under `stages: auto` the plan decides the arms."""
    arms: Sequence[str] = plan.arms if plan is not None and recipe.stages == "auto" else recipe.arms
    models = {split_arm(arm)[0] for arm in arms}
    yield from (StageKey("data"), StageKey("pilot"))
    if {"sft", "sft_rlvr"} & models:
        yield StageKey("warmup")
    yield from (StageKey("rlvr", arm) for arm in ("rlvr", "sft_rlvr") if arm in models)
    decodings = recipe.evaluate.decodings
    for arm in (*arms, *recipe.endpoints):
        variant_name = split_arm(arm)[1] if arm in arms else ""
        scored_by = decodings[:1] if variant_name in VOTING else decodings
        yield from (StageKey.scoring(arm, decoding) for decoding in scored_by)
        if variant_name:
            continue
        yield from (StageKey.scoring(arm, decodings[0], f"transfer-{place}") for place in recipe.places)
        if recipe.evaluate.probabilities == "samples":
            yield StageKey.scoring(arm, "samples")
        if recipe.evaluate.repeats:
            yield StageKey.scoring(arm, "repeated")
