"""One recipe under several seeds: each an ordinary run under RUN/seeds/, then the figures of all together in RUN/results.json."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from ehrmind.config import Recipe
from ehrmind.runs import Run, open_run
from ehrmind.runs.lock import writes_into
from ehrmind.runs.start import is_bare
from ehrmind.stages.evaluation.comparison import Outcome, outcomes
from ehrmind.stages.evaluation.evaluate import stage_of
from ehrmind.stages.evaluation.results import compared, scored_arms, transfer_outcomes
from ehrmind.stages.models import day_of
from ehrmind.stages.pipeline import OpenEngine, open_local, run_pipeline
from ehrmind.world import current


@writes_into("out")
def run_seeds(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    stages: tuple[str, ...] | None = None,
    open_engine: OpenEngine = open_local,
) -> Run:
    """`run_pipeline` where the recipe has one seed. Else a run for each of `seed`, `seed + 1` …, and what they say together."""
    if recipe.seeds == 1:
        return run_pipeline(recipe, out, resume=resume, stages=stages, open_engine=open_engine)
    run = open_run(out, recipe, resume=resume)
    parts = parts_of(recipe)
    for seed, part in parts.items():
        # a folder that is not there yet is made; one that is goes on
        run_pipeline(
            part, run.of_seed(seed).path, resume=True, stages=stages, open_engine=open_engine, began=_began(run)
        )
    current().from_first(lambda: _pool(run, parts))
    return run


def _began(run: Run) -> date | None:
    """The day that the first seed's run was pinned to, which is all seeds' day."""

    def days() -> list[str]:
        begun = (day_of(part) for part in run.seeds() if not is_bare(part.path))
        return [str(day) for day in begun if day is not None]

    found = current().from_first(days)
    return date.fromisoformat(found[0]) if found else None


def _pool(run: Run, parts: dict[int, Recipe]) -> None:
    """Once all are there, and again when the results of one have changed."""
    if not all(run.of_seed(seed).read_json("results.json") for seed in parts):
        return
    of = {str(seed): run.of_seed(seed).manifest.read().files["results.json"].sha256 for seed in parts}
    if run.read_json("results.json") is None or (run.done("seeds") or {}).get("of") != of:
        with run.stage("seeds") as facts:
            run.write_json("results.json", pooled(run, parts))
            facts |= {"seeds": list(parts), "of": of}


def parts_of(recipe: Recipe) -> dict[int, Recipe]:
    """The recipe of each of several seeds. Made-up data keep their own seeds; what the run's seed draws (a limit, a share of train, a tiny
    model) differs."""
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    return {
        seed: recipe.model_copy(update={"seed": seed, "seeds": 1, "name": f"{recipe.name}, seed {seed}"})
        for seed in seeds
    }


def pooled(run: Run, parts: dict[int, Recipe]) -> dict[str, Any]:
    """results.json of all seeds: means over them, intervals over both seeds and patients. Of what is not an arm's accuracy, such as curves
    over samples, every seed's own results.json has the figures."""
    found: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    transfer: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    strata: set[str] = set()
    for seed, part in parts.items():
        one = run.of_seed(seed)
        splits = one.load_cases()
        cases, arms = {case.id: case for case in splits["held_out"]}, scored_arms(one, part)
        strata |= {case.stratum for case in splits["train"]}
        for arm in arms:
            for how in part.evaluate.decodings:
                if one.rollout_steps(stage_of(arm, how)):
                    found[arm, how] += _marked(outcomes(one, part, arm, how, cases), seed)
        places = {
            name.removeprefix("transfer-"): there for name, there in splits.items() if name.startswith("transfer-")
        }
        for place, of_arms in transfer_outcomes(one, part, arms, places).items():
            for arm, rows in of_arms.items():
                transfer[place][arm] += _marked(rows, seed)
    recipe = next(iter(parts.values()))
    singles = [run.of_seed(seed).read_json("results.json") for seed in parts]
    seconds: Counter[str] = Counter()
    for single in singles:
        seconds.update(single["seconds"])
    kept = {
        key: singles[0][key]
        for key in ("probabilities", "baselines", "contamination", "test_sets")
        if key in singles[0]
    }
    return {
        **compared(recipe, found, transfer, strata),
        **kept,
        "seeds": list(parts),
        "held_out_scorings": [scoring for single in singles for scoring in single["held_out_scorings"]],
        "seconds": dict(seconds),
    }


def _marked(rows: Sequence[Outcome], seed: int) -> list[Outcome]:
    return [{**row, "seed": seed} for row in rows]
