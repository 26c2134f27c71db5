"""One recipe under several seeds: a run for each under RUN/seeds/, and their pooled figures in
RUN/results.json."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from ehrmind.config import Recipe
from ehrmind.prompts.records import with_histories
from ehrmind.runs import Run, open_run
from ehrmind.runs.lock import writes_into
from ehrmind.runs.records import HELD_OUT, Results, StageKey
from ehrmind.runs.start import is_bare
from ehrmind.stages.context import transfer_sets
from ehrmind.stages.evaluation.baselines import baseline_measures, baseline_outcomes
from ehrmind.stages.evaluation.comparison import Outcome, outcomes
from ehrmind.stages.evaluation.process import Auditor, process_figures
from ehrmind.stages.evaluation.results import compared, scored_arms, transfer_outcomes
from ehrmind.stages.models import Locate, OpenEngine, locate_base, open_local
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.stages.provenance import day_of
from ehrmind.world import current


@writes_into("out")
def run_seeds(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    stages: tuple[str, ...] | None = None,
    open_engine: OpenEngine = open_local,
    locate: Locate = locate_base,
) -> Run:
    """Runs `run_pipeline` for each of the seeds `seed`, `seed + 1` …, and pools them. A recipe with
    one seed gives an ordinary run."""
    if recipe.seeds == 1:
        return run_pipeline(recipe, out, resume=resume, stages=stages, open_engine=open_engine, locate=locate)
    run = open_run(out, recipe, resume=resume)
    parts = parts_of(recipe)
    for seed, part in parts.items():
        folder = run.of_seed(seed).path  # made if it is not there yet, else resumed
        run_pipeline(
            part, folder, resume=True, stages=stages, open_engine=open_engine, locate=locate, began=_began(run)
        )
    current().from_first(lambda: _pool(run, parts))
    return run


def _began(run: Run) -> date | None:
    """The day that the first seed's run was pinned to. All seeds share it."""

    def days() -> list[str]:
        begun = (day_of(part) for part in run.seeds() if not is_bare(part.path))
        return [str(day) for day in begun if day is not None]

    found = current().from_first(days)
    return date.fromisoformat(found[0]) if found else None


def _pool(run: Run, parts: dict[int, Recipe]) -> None:
    """Writes the pooled results once all seeds are done, and again if the results of one have
    changed."""
    if not all(run.of_seed(seed).read_json("results.json") for seed in parts):
        return
    of = {str(seed): run.of_seed(seed).manifest.read().files["results.json"].sha256 for seed in parts}
    if run.read_json("results.json") is None or (run.done("seeds") or {}).get("of") != of:
        with run.stage("seeds") as facts:
            run.write_record("results.json", pooled(run, parts))
            facts |= {"seeds": list(parts), "of": of}


def parts_of(recipe: Recipe) -> dict[int, Recipe]:
    """The recipe of each seed. Synthetic data keep their own seeds. The run's seed decides a limit,
    a share of train and a tiny model."""
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    return {
        seed: recipe.model_copy(update={"seed": seed, "seeds": 1, "name": f"{recipe.name}, seed {seed}"})
        for seed in seeds
    }


def pooled(run: Run, parts: dict[int, Recipe]) -> Results:
    """Pools the results of all seeds: means over seeds, intervals over seeds and patients. The
    process audit is pooled too; curves over samples stand in each seed's own results.json."""
    found: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    transfer: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    baselines: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    strata: set[str] = set()
    audited: list[tuple[Run, Recipe, Auditor]] = []
    for seed, part in parts.items():
        one = run.of_seed(seed)
        splits = one.load_cases()
        held_out, _ = with_histories(splits[HELD_OUT], part.prompts.history)  # the audit reads them
        cases, arms = {case.id: case for case in held_out}, scored_arms(one, part)
        audited.append((one, part, Auditor(cases)))
        strata |= {case.stratum for case in splits["train"]}
        for arm in arms:
            for how in part.evaluate.decodings:
                if one.rollout_steps(str(StageKey.scoring(arm, how))):
                    found[arm, how] += _marked(outcomes(one, part, arm, how, cases), seed)
        for name, asked in {HELD_OUT: splits[HELD_OUT], **transfer_sets(splits)}.items():
            for baseline, rows in baseline_outcomes(one, part, asked, name).items():
                baselines[name][baseline] += _marked(rows, seed)
        for place, of_arms in transfer_outcomes(one, part, arms, transfer_sets(splits)).items():
            for arm, rows in of_arms.items():
                transfer[place][arm] += _marked(rows, seed)
    recipe = next(iter(parts.values()))
    singles = [results for seed in parts if (results := run.of_seed(seed).read_record("results.json", Results))]
    seconds: dict[str, float] = defaultdict(float)
    for single in singles:
        for stage, took in single.seconds.items():
            seconds[stage] += took
    scorings = [scoring for single in singles for scoring in single.held_out_scorings]
    kept = singles[0].model_fields_set & {"probabilities", "baselines", "contamination", "test_sets"}
    about = {name: getattr(singles[0], name) for name in kept}
    if measures := baseline_measures(baselines[HELD_OUT]):
        about["baselines"] = measures
    results = compared(recipe, found, transfer, strata, scorings, dict(seconds), baselines)
    about["arms"] = {
        arm: row.model_copy(update={"process": process} if (process := process_figures(audited, arm)) else {})
        for arm, row in results.arms.items()
    }
    return results.model_copy(update={**about, "seeds": tuple(parts)})


def _marked(rows: Sequence[Outcome], seed: int) -> list[Outcome]:
    return [replace(row, seed=seed) for row in rows]
