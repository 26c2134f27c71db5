"""All scored arms side by side: results.json."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ehrmind import tasks
from ehrmind.config import ARMS, Recipe
from ehrmind.measures import trec_run
from ehrmind.process_audit.facts import Known
from ehrmind.runs import Run
from ehrmind.stages.evaluation.comparison import Outcome, columns, comparison, outcomes
from ehrmind.stages.evaluation.endpoints import spent
from ehrmind.stages.evaluation.evaluate import stage_of
from ehrmind.stages.evaluation.label_predictions import write_predictions
from ehrmind.stages.evaluation.process import process_figures
from ehrmind.stages.evaluation.repeated import REPEATED, repeated_figures
from ehrmind.stages.evaluation.samples import origin, with_labels
from ehrmind.stages.evaluation.variants import thinks
from ehrmind.types import Case

Found = Mapping[tuple[str, str], list[Outcome]]  # by arm and decoding


def write_results(
    run: Run,
    recipe: Recipe,
    held_out: Sequence[Case],
    seconds: dict[str, float],
    transfer: Mapping[str, Sequence[Case]] | None = None,
    baselines: Mapping[str, Any] | None = None,
    train: Sequence[Case] = (),
) -> dict[str, Any]:
    """Put all scored arms side by side: results.json. `elsewhere` has further held-out cases by name, compared apart; `baselines` the
    measures of what is no language model; what `train` has is a seen task."""
    cases, places = {case.id: case for case in held_out}, transfer or {}
    headline, arms = recipe.evaluate.decodings[0], scored_arms(run, recipe)
    found: dict[tuple[str, str], list[Outcome]] = {
        (arm, how): outcomes(run, recipe, arm, how, cases)
        for arm in arms
        for how in recipe.evaluate.decodings
        if run.rollout_steps(stage_of(arm, how))
    }
    labelled = any(map(with_labels, (held_out, *places.values())))
    there = transfer_outcomes(run, recipe, arms, places)
    results: dict[str, Any] = {
        **compared(recipe, found, there, {case.stratum for case in train}),
        **({"probabilities": origin(recipe.evaluate)} if labelled else {}),
        **({"baselines": dict(baselines)} if baselines else {}),
        **({"contamination": checked} if (checked := run.read_json("contamination.json")) is not None else {}),
        "test_sets": {name: _named(of) for name, of in {"held_out": held_out, **places}.items()},
        **({"alarms": raised} if (raised := run.alarms()) else {}),
        "held_out_scorings": run.scorings(),
        "seconds": seconds,
    }
    about: dict[str, Known] = {}
    for arm in arms:
        results["arms"][arm]["cost"]["seconds"] = seconds.get(stage_of(arm, headline), 0.0)
        if run.rollout_steps(stage := stage_of(arm, REPEATED)):
            results["arms"][arm]["repeated"] = repeated_figures(
                run.read_rollouts(stage).to_dicts(), cases, thinks(recipe, arm)
            )
        if process := process_figures(run, recipe, arm, cases, about):
            results["arms"][arm]["process"] = process
    for name in recipe.endpoints.keys() & set(arms):
        results["arms"][name]["endpoint"] = spent(run, name, headline)
    if recipe.evaluate.trec_runs:
        _write_trec_runs(run, found)
    for (arm, how), rows in found.items():
        write_predictions(run, f"{arm}-{how}", *columns(rows))
    for place, of_arms in there.items():
        for arm, rows in of_arms.items():
            write_predictions(run, f"transfer-{place}-{arm}-{headline}", *columns(rows))
    run.write_json("results.json", results)
    return results


def scored_arms(run: Run, recipe: Recipe) -> list[str]:
    """Every arm whose scoring is done: those of `ARMS` in their order, then the others as the marks name them."""
    before, after = "evaluate-", f"-{recipe.evaluate.decodings[0]}"
    marks = [mark for mark in run.finished() if mark.startswith(before) and mark.endswith(after)]
    names = [mark.removeprefix(before).removesuffix(after) for mark in marks]
    return [*(arm for arm in ARMS if arm in names), *(name for name in names if name not in ARMS)]


def compared(
    recipe: Recipe, found: Found, transfer: Mapping[str, Mapping[str, list[Outcome]]], train_strata: Collection[str]
) -> dict[str, Any]:
    """The part of results.json that outcomes alone decide: every view of the held-out cases, those elsewhere, and what was forgotten."""
    headline, *others = recipe.evaluate.decodings
    scorer = recipe.evaluate.scorer
    other_scorer = "benchmark" if scorer == "ehrmind" else "ehrmind"
    by_decoding = {
        how: {arm: rows for (arm, decoding), rows in found.items() if decoding == how}
        for how in recipe.evaluate.decodings
    }
    places = {name: comparison(of_arms, scorer) for name, of_arms in transfer.items() if of_arms}
    lost = _forgetting(recipe, places["general"]) if "general" in places else {}
    return {
        **comparison(by_decoding[headline], scorer, train_strata=train_strata),
        "decoding": headline,
        "scorer": scorer,
        **{how: comparison(by_decoding[how], scorer) for how in others},
        other_scorer: comparison(by_decoding[headline], other_scorer),
        **({"transfer": places} if places else {}),
        **({"forgetting": lost} if lost else {}),
    }


def _forgetting(recipe: Recipe, general: Mapping[str, Any]) -> dict[str, Any]:
    """Trained arms against base on general questions: not inferior where the interval's lower end is above −margin."""
    asked, arms = recipe.evaluate.general, general["arms"]
    trained = [arm for arm in arms if arm in ARMS and arm != "base"]
    if asked is None or "base" not in arms or not trained:
        return {}
    pairs = {arm: general["pairs"][f"{arm}-base"] for arm in trained}
    return {
        "margin": asked.margin,
        "gate": asked.gate,
        "n": arms["base"]["n"] // len(arms["base"].get("per_seed", [None])),  # every seed asks the same ones
        "base": arms["base"]["accuracy"],
        "arms": {
            arm: {**row, "kept": row["ci95"][0] > -asked.margin, "lost": row["ci95"][1] < 0}
            for arm, row in pairs.items()
        },
    }


def gate(run: Run) -> str | None:
    """What fails the forgetting gate, in a sentence; None where nothing does, or where the recipe sets no gate."""
    found = (run.read_json("results.json") or {}).get("forgetting")
    if not found or not found["gate"]:
        return None
    failing = [arm for arm, row in found["arms"].items() if not row["kept"]]
    if not failing:
        return None
    worst = ", ".join(f"{arm} ({100 * found['arms'][arm]['ci95'][0]:+.1f} points at worst)" for arm in failing)
    margin = f"{100 * found['margin']:g} points of accuracy on {found['n']} general questions"
    return f"Forgetting gate: not shown to keep within {margin}: {worst}; rehearse, train less, or ask more questions (evaluate.general.n)."


def transfer_outcomes(
    run: Run, recipe: Recipe, arms: Sequence[str], places: Mapping[str, Sequence[Case]]
) -> dict[str, dict[str, list[Outcome]]]:
    """{place: {arm: outcomes}} under the first decoding, of the arms that were scored there."""
    how, found = recipe.evaluate.decodings[0], {}
    for name, held_out in places.items():
        cases, where = {case.id: case for case in held_out}, f"transfer-{name}"
        there = [arm for arm in arms if run.rollout_steps(stage_of(arm, how, where))]
        found[name] = {arm: outcomes(run, recipe, arm, how, cases, where) for arm in there}
    return found


def _named(cases: Sequence[Case]) -> dict[str, Any]:
    """Which cases these are, so that runs can be compared on the same ones."""
    ids = "\n".join(sorted(case.id for case in cases))
    families = sorted({case.family for case in cases})
    return {"n": len(cases), "families": families, "digest": hashlib.sha256(ids.encode()).hexdigest()[:16]}


def _write_trec_runs(run: Run, found: Found) -> None:
    """Ids, ranks and scores only: RUN/trec_runs/ARM-DECODING.txt."""
    for (arm, how), rows in found.items():
        pairs = [row for row in rows if row["case"].family == "trials"]
        scores = tasks.trials.eligibility_scores(
            [row["answer"] for row in pairs], [row["probabilities"] for row in pairs]
        )
        topics, documents = ([row["case"].provenance[key] for row in pairs] for key in ("topic", "trial"))
        run.put(f"trec_runs/{arm}-{how}.txt", trec_run(topics, documents, scores, f"{arm}-{how}").encode())
