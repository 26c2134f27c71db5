"""All scored arms side by side: results.json."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

from ehrmind import tasks
from ehrmind.config import ARMS, Recipe
from ehrmind.measures import trec_run
from ehrmind.runs import Run
from ehrmind.runs.records import (
    HELD_OUT,
    SCHEMA_VERSION,
    ArmResult,
    Comparison,
    Contamination,
    Forgetting,
    ForgettingOfArm,
    HeldOutSet,
    Results,
    Scoring,
    StageKey,
)
from ehrmind.stages.context import StageContext
from ehrmind.stages.evaluation.baselines import baseline_measures, baseline_outcomes
from ehrmind.stages.evaluation.comparison import Outcome, columns, comparison, outcomes
from ehrmind.stages.evaluation.endpoints import spent
from ehrmind.stages.evaluation.label_predictions import write_predictions
from ehrmind.stages.evaluation.process import Auditor, process_figures
from ehrmind.stages.evaluation.repeated import REPEATED, repeated_figures
from ehrmind.stages.evaluation.samples import origin, with_labels
from ehrmind.stages.evaluation.variants import thinks
from ehrmind.types import Case

Found = Mapping[tuple[str, str], Sequence[Outcome]]  # by arm and decoding
Places = Mapping[str, Mapping[str, Sequence[Outcome]]]  # by set of cases, and arm or baseline


def write_results(
    context: StageContext,
    contamination: Mapping[str, Contamination],
    seconds: Mapping[str, float],
) -> Results:
    """Writes results.json from the rollouts of all scored arms and the answers of the baselines.
    `seconds` are those of every finished stage."""
    run, recipe, held_out = context.run, context.recipe, context.splits["held_out"]
    cases, headline, arms = {case.id: case for case in held_out}, recipe.evaluate.decodings[0], scored_arms(run, recipe)
    found: dict[tuple[str, str], list[Outcome]] = {
        (arm, how): outcomes(run, recipe, arm, how, cases)
        for arm in arms
        for how in recipe.evaluate.decodings
        if run.rollout_steps(str(StageKey.scoring(arm, how)))
    }
    places = transfer_outcomes(run, recipe, arms, context.transfer)
    test_sets = {HELD_OUT: held_out, **context.transfer}
    baselines = {name: baseline_outcomes(run, recipe, of, name) for name, of in test_sets.items()}
    train_strata = {case.stratum for case in context.train}
    results = compared(recipe, found, places, train_strata, run.scorings(), seconds, baselines)
    about: dict[str, object] = {"test_sets": {name: _identity(of) for name, of in test_sets.items()}}
    if any(map(with_labels, test_sets.values())):
        about["probabilities"] = origin(recipe.evaluate)
    if measures := baseline_measures(baselines[HELD_OUT]):
        about["baselines"] = measures
    if contamination:
        about["contamination"] = contamination
    if raised := run.alarms():
        about["alarms"] = tuple(raised)
    auditor = Auditor(cases)
    about["arms"] = {
        arm: _whole_arm(run, recipe, arm, result, seconds, auditor) for arm, result in results.arms.items()
    }
    results = results.model_copy(update=about)
    if recipe.evaluate.trec_runs:
        _write_trec_runs(run, found)
    for (arm, how), rows in found.items():
        write_predictions(run, f"{arm}-{how}", *columns(rows))
    for place, of_arms in places.items():
        for arm, rows in of_arms.items():
            write_predictions(run, f"transfer-{place}-{arm}-{headline}", *columns(rows))
    write_predictions(run, "gradient_boosting", *columns(baselines[HELD_OUT].get("gradient_boosting", ())))
    run.write_record("results.json", results)
    return results


def _whole_arm(
    run: Run, recipe: Recipe, arm: str, result: ArmResult, seconds: Mapping[str, float], auditor: Auditor
) -> ArmResult:
    """Adds to an arm of the headline comparison what only that has: seconds, repeated samples, the
    process audit, an endpoint's cost."""
    headline = recipe.evaluate.decodings[0]
    spent_here = seconds.get(str(StageKey.scoring(arm, headline)), 0.0)
    more: dict[str, object] = {"cost": result.cost.model_copy(update={"seconds": spent_here})}
    if run.rollout_steps(stage := str(StageKey.scoring(arm, REPEATED))):
        more["repeated"] = repeated_figures(run.rollout_rows(stage), auditor.cases, thinks(recipe, arm))
    if process := process_figures([(run, recipe, auditor)], arm):
        more["process"] = process
    if arm in recipe.endpoints:
        more["endpoint"] = spent(run, arm, headline)
    return result.model_copy(update=more)


def scored_arms(run: Run, recipe: Recipe) -> list[str]:
    """Lists the arms whose scoring is done: those of `ARMS` in their order, then the others by
    name."""
    keys = map(StageKey.parse, run.finished())
    names = [key.arm for key in keys if key.kind == "evaluate" and key.decoding == recipe.evaluate.decodings[0]]
    return [*(arm for arm in ARMS if arm in names), *(name for name in names if name not in ARMS)]


def compared(
    recipe: Recipe,
    found: Found,
    transfer: Places,
    train_strata: Collection[str],
    scorings: Sequence[Scoring],
    seconds: Mapping[str, float],
    baselines: Places,
) -> Results:
    """Returns the results that outcomes alone decide: every view of the held-out cases, the
    transfer sets, and what was forgotten. `baselines` are by set of cases and baseline."""
    headline, *others = recipe.evaluate.decodings
    scorer = recipe.evaluate.scorer
    by_decoding = {
        how: {arm: rows for (arm, decoding), rows in found.items() if decoding == how}
        for how in recipe.evaluate.decodings
    }
    there = baselines.get(HELD_OUT, {})
    first = comparison(by_decoding[headline], scorer, train_strata=train_strata, baselines=there)
    results = Results(
        schema_version=SCHEMA_VERSION,
        arms=first.arms,
        pairs=first.pairs,
        **({"baseline_accuracy": first.baseline_accuracy} if there else {}),
        decoding=headline,
        scorer=scorer,
        held_out_scorings=tuple(scorings),
        seconds=seconds,
    )
    other_scorer = "benchmark" if scorer == "ehrmind" else "ehrmind"
    views: dict[str, object] = {how: comparison(by_decoding[how], scorer, baselines=there) for how in others}
    views[other_scorer] = comparison(by_decoding[headline], other_scorer, baselines=there)
    places = {
        name: comparison(of_arms, scorer, baselines=baselines.get(name))
        for name, of_arms in transfer.items()
        if of_arms
    }
    if places:
        views["transfer"] = places
    if "general" in places and (lost := _forgetting(recipe, places["general"])):
        views["forgetting"] = lost
    return results.model_copy(update=views)


def _forgetting(recipe: Recipe, general: Comparison) -> Forgetting | None:
    """Compares trained arms with base on general questions. An arm is not inferior if its
    interval's lower end is above −margin."""
    asked, arms = recipe.evaluate.general, general.arms
    trained = [arm for arm in arms if arm in ARMS and arm != "base"]
    if asked is None or "base" not in arms or not trained:
        return None
    pairs = {arm: general.pairs[f"{arm}-base"] for arm in trained}
    base = arms["base"]
    return Forgetting(
        margin=asked.margin,
        gate=asked.gate,
        n=base.n // max(1, len(base.per_seed)),  # every seed asks the same questions
        base=base.accuracy,
        arms={
            arm: ForgettingOfArm(**pair.to_dict(), kept=pair.ci95[0] > -asked.margin, lost=pair.ci95[1] < 0)
            for arm, pair in pairs.items()
        },
    )


def gate(run: Run) -> str | None:
    """Says what fails the forgetting gate; None if nothing does, or if the recipe sets no gate."""
    results = run.read_record("results.json", Results)
    found = None if results is None else results.forgetting
    if found is None or not found.gate:
        return None
    failing = [arm for arm, row in found.arms.items() if not row.kept]
    if not failing:
        return None
    worst = ", ".join(f"{arm} ({100 * found.arms[arm].ci95[0]:+.1f} points at worst)" for arm in failing)
    margin = f"{100 * found.margin:g} points of accuracy on {found.n} general questions"
    return (
        f"Forgetting gate: not shown to keep within {margin}: {worst}; rehearse, train less, or ask more questions "
        "(evaluate.general.n)."
    )


def transfer_outcomes(
    run: Run, recipe: Recipe, arms: Sequence[str], places: Mapping[str, Sequence[Case]]
) -> dict[str, dict[str, list[Outcome]]]:
    """Reads outcomes on transfer sets, by set and arm, under the first decoding, of the arms that
    were scored there."""
    how, found = recipe.evaluate.decodings[0], {}
    for name, held_out in places.items():
        cases, where = {case.id: case for case in held_out}, f"transfer-{name}"
        there = [arm for arm in arms if run.rollout_steps(str(StageKey.scoring(arm, how, where)))]
        found[name] = {arm: outcomes(run, recipe, arm, how, cases, where) for arm in there}
    return found


def _identity(cases: Sequence[Case]) -> HeldOutSet:
    """Identifies a set of cases, so that runs can be compared on the same ones."""
    ids = "\n".join(sorted(case.id for case in cases))
    families = tuple(sorted({case.family for case in cases}))
    return HeldOutSet(n=len(cases), families=families, digest=hashlib.sha256(ids.encode()).hexdigest()[:16])


def _write_trec_runs(run: Run, found: Found) -> None:
    """Writes RUN/trec_runs/ARM-DECODING.txt: ids, ranks and scores only."""
    for (arm, how), rows in found.items():
        pairs = [row for row in rows if row.case.family == "trials"]
        scores = tasks.trials.eligibility_scores([row.answer for row in pairs], [row.probabilities for row in pairs])
        topics, documents = ([row.case.provenance[key] for row in pairs] for key in ("topic", "trial"))
        run.put(f"trec_runs/{arm}-{how}.txt", trec_run(topics, documents, scores, f"{arm}-{how}").encode())
