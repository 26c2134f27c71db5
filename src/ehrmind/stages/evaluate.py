"""The evaluation: every arm answers the same held-out cases under the same decodings; results.json compares them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from ehrmind import tasks
from ehrmind.config import ARMS, Recipe
from ehrmind.engines import Engine
from ehrmind.files import write_json, write_text
from ehrmind.measures import trec_run
from ehrmind.runs import Run
from ehrmind.stages.predictions import write_predictions
from ehrmind.stages.rollout import answer_all, outcome_metrics, render_prompts
from ehrmind.stages.samples import SAMPLES, label_shares, origin, with_labels
from ehrmind.statistics import paired_difference, wilson
from ehrmind.types import Case
from ehrmind.verify import judge
from ehrmind.verify.benchmark import benchmark_score


def stage_of(arm: str, decoding: str, where: str = "held_out") -> str:
    """The name of scoring one arm: on the recipe's held-out cases, or elsewhere. `SAMPLES` is a decoding here."""
    if where == "held_out" and decoding != SAMPLES:
        return f"evaluate-{arm}-{decoding}"
    return f"{SAMPLES}-{arm}" if where == "held_out" else f"{where}-{arm}-{decoding}"


def evaluate(
    run: Run, recipe: Recipe, engine: Engine, arm: str, decoding: str, held_out: Sequence[Case], where: str = "held_out"
) -> dict[str, Any]:
    """Score one frozen arm once under one decoding; writes its rollouts and returns counts. Resumes after its last whole batch. The
    decoding `SAMPLES` gives further answers where answers are labels, which decide nothing but probabilities."""
    stage = stage_of(arm, decoding, where)
    how = recipe.decoding.model_copy(update={"temperature": 0.0}) if decoding == "greedy" else recipe.decoding
    purpose, members = ("samples", recipe.evaluate.samples) if decoding == SAMPLES else ("evaluate", 1)
    if decoding == SAMPLES:
        held_out = with_labels(held_out)
    likelihoods = recipe.evaluate.probabilities == "answer_tokens"
    prompts = render_prompts(engine, recipe, held_out, how)
    if not run.rollout_steps(stage):
        run.count_scoring(arm, decoding if where == "held_out" else f"{decoding}, {where}", recipe.seed)
    rows = answer_all(
        run, engine, recipe, stage, arm, held_out, prompts, purpose=purpose, members=members, decoding=how, likelihoods=likelihoods
    )
    metrics = outcome_metrics(rows)
    run.forget_metrics(stage, 0)
    run.log(stage, arm, 0, metrics)
    return {"held_out": len(held_out), "prompts_too_long": len(held_out) - len(prompts), **metrics}


def write_results(
    run: Run,
    recipe: Recipe,
    held_out: Sequence[Case],
    seconds: dict[str, float],
    elsewhere: Mapping[str, Sequence[Case]] | None = None,
    baselines: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put all scored arms side by side: results.json. `elsewhere` has further held-out cases by name, compared apart; `baselines` the
    measures of what is no language model."""
    arms = [arm for arm in ARMS if arm in recipe.arms]
    cases = {case.id: case for case in held_out}
    headline, *others = recipe.evaluate.decodings
    outcomes = {(arm, how): _outcomes(run, recipe, arm, how, cases) for arm in arms for how in recipe.evaluate.decodings}
    labelled = any(map(with_labels, (held_out, *(elsewhere or {}).values())))
    other_scorer = "benchmark" if recipe.evaluate.scorer == "ehrmind" else "ehrmind"
    results: dict[str, Any] = {
        **_comparison({arm: outcomes[arm, headline] for arm in arms}, recipe.evaluate.scorer),
        "decoding": headline,
        "scorer": recipe.evaluate.scorer,
        **({"probabilities": origin(recipe.evaluate)} if labelled else {}),
        **{how: _comparison({arm: outcomes[arm, how] for arm in arms}, recipe.evaluate.scorer) for how in others},
        other_scorer: _comparison({arm: outcomes[arm, headline] for arm in arms}, other_scorer),
        **({"elsewhere": places} if (places := _elsewhere(run, recipe, arms, headline, elsewhere or {})) else {}),
        **({"baselines": dict(baselines)} if baselines else {}),
        "held_out_scorings": run.scorings(),
        "seconds": seconds,
    }
    if recipe.evaluate.trec_runs:
        _write_trec_runs(run, outcomes)
    for (arm, how), rows in outcomes.items():
        write_predictions(run, f"{arm}-{how}", *_columns(rows))
    write_json(run.path / "results.json", results)
    return results


def _elsewhere(run: Run, recipe: Recipe, arms: Sequence[str], decoding: str, elsewhere: Mapping[str, Sequence[Case]]) -> dict[str, Any]:
    found = {}
    for name, held_out in elsewhere.items():
        cases = {case.id: case for case in held_out}
        rows = {arm: _outcomes(run, recipe, arm, decoding, cases, f"elsewhere-{name}") for arm in arms}
        found[name] = _comparison(rows, recipe.evaluate.scorer)
        for arm in arms:
            write_predictions(run, f"elsewhere-{name}-{arm}-{decoding}", *_columns(rows[arm]))
    return found


def _write_trec_runs(run: Run, outcomes: Mapping[Any, list[dict[str, Any]]]) -> None:
    """Ids, ranks and scores only: RUN/trec_runs/ARM-DECODING.txt."""
    (run.path / "trec_runs").mkdir(exist_ok=True)
    for (arm, how), rows in outcomes.items():
        pairs = [row for row in rows if row["case"].family == "trials"]
        scores = tasks.trials.eligibility_scores([row["answer"] for row in pairs], [row["probabilities"] for row in pairs])
        topics, documents = ([row["case"].provenance[key] for row in pairs] for key in ("topic", "trial"))
        write_text(run.path / "trec_runs" / f"{arm}-{how}.txt", trec_run(topics, documents, scores, f"{arm}-{how}"))


def _outcomes(run: Run, recipe: Recipe, arm: str, decoding: str, cases: dict[str, Case], where: str = "held_out") -> list[dict[str, Any]]:
    """Per held-out case, in their order: the case, well_formed, right or wrong under both scorers, the answer, labels' probabilities."""
    think = recipe.prompts.think
    shares: Mapping[str, list[float]] = {}
    if recipe.evaluate.probabilities == SAMPLES and with_labels(list(cases.values())):
        shares = label_shares(run.read_rollouts(stage_of(arm, SAMPLES, where)).to_dicts(), cases, think)
    rows = run.read_rollouts(stage_of(arm, decoding, where)).to_dicts()
    return [
        {
            "case": cases[row["case"]],
            "stratum": row["stratum"],
            "well_formed": row["well_formed"],
            "ehrmind": row["correct"],
            "benchmark": benchmark_score(cases[row["case"]], row["text"]),
            "answer": judge(cases[row["case"]], row["text"], think=think).answer if row["well_formed"] else None,
            "probabilities": shares.get(row["case"], row["probabilities"]),
        }
        for row in rows
    ]


def _comparison(outcomes: dict[str, list[dict[str, Any]]], scorer: str) -> dict[str, Any]:
    pairs = {}
    for first, second in combinations(outcomes, 2):
        later, earlier = ([bool(row[scorer]) for row in outcomes[arm]] for arm in (second, first))
        pairs[f"{second}-{first}"] = paired_difference(later, earlier)
    return {"arms": {arm: _arm(rows, scorer) for arm, rows in outcomes.items()}, "pairs": pairs}


def _arm(rows: list[dict[str, Any]], scorer: str) -> dict[str, Any]:
    by_stratum: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        by_stratum[row["stratum"]].append(bool(row[scorer]))
    return {
        **_accuracy([bool(row[scorer]) for row in rows]),
        "unparsed": sum(not row["well_formed"] for row in rows),
        "by_stratum": {stratum: _accuracy(by_stratum[stratum]) for stratum in sorted(by_stratum)},
        **({"measures": measures} if (measures := _measures(rows)) else {}),
    }


def _measures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """{family/task: the family's own measures}, for families that have some."""
    by_task: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_task[f"{row['case'].family}/{row['case'].task}"].append(row)
    found = {}
    for name in sorted(by_task):
        cases, answers, shares = _columns(by_task[name])
        if figures := tasks.of(cases[0]).measures(cases, answers, shares):
            found[name] = figures
    return found


def _columns(rows: list[dict[str, Any]]) -> tuple[list[Case], list[Any], list[Any]]:
    """(cases, answers, probabilities of the labels)"""
    return [row["case"] for row in rows], [row["answer"] for row in rows], [row["probabilities"] for row in rows]


def _accuracy(right: list[bool]) -> dict[str, Any]:
    n, correct = len(right), sum(right)
    return {"n": n, "correct": correct, "accuracy": correct / max(1, n), "ci95": list(wilson(correct, n))}
