"""Judged answers of several arms -> their figures side by side, with intervals over patients and tests over pairs of arms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

from ehrmind import tasks
from ehrmind.config import Recipe
from ehrmind.runs import Run
from ehrmind.stages.evaluation.evaluate import stage_of
from ehrmind.stages.evaluation.samples import SAMPLES, label_shares, with_labels
from ehrmind.stages.evaluation.subgroups import SUBGROUPS
from ehrmind.stages.evaluation.variants import thinks
from ehrmind.statistics import benjamini_hochberg, clustered_difference, holm, mean_interval, over_seeds
from ehrmind.types import Case
from ehrmind.verify import judge
from ehrmind.verify.benchmark import KINDS, benchmark_score

Outcome = dict[str, Any]
SEEDS = "seeds and groups"


def outcomes(
    run: Run, recipe: Recipe, arm: str, decoding: str, cases: Mapping[str, Case], where: str = "held_out"
) -> list[Outcome]:
    """Per held-out case, in their order: the case, well_formed, right or wrong under both scorers, the answer, labels' probabilities."""
    think = thinks(recipe, arm)
    shares: Mapping[str, list[float]] = {}
    if (
        recipe.evaluate.probabilities == SAMPLES
        and with_labels(list(cases.values()))
        and run.rollout_steps(stage_of(arm, SAMPLES, where))
    ):
        shares = label_shares(run.read_rollouts(stage_of(arm, SAMPLES, where)).to_dicts(), cases, think)
    rows = run.read_rollouts(stage_of(arm, decoding, where)).to_dicts()
    return [
        {
            "case": cases[row["case"]],
            "stratum": row["stratum"],
            "well_formed": row["well_formed"],
            "ehrmind": row["correct"],
            "benchmark": _by_benchmark(recipe, cases[row["case"]], row),
            "answer": judge(cases[row["case"]], row["text"], think=think).answer if row["well_formed"] else None,
            "probabilities": shares.get(row["case"], row["probabilities"]),
            "tokens": row["tokens"],
            "prompt_tokens": row["prompt_tokens"],
        }
        for row in rows
    ]


def _by_benchmark(recipe: Recipe, case: Case, row: Mapping[str, Any]) -> bool:
    """A kind of truth that the benchmark has no rule for counts by ours, unless the recipe's headline is the benchmark's: then
    benchmark_score refuses it."""
    if case.truth["kind"] not in KINDS and recipe.evaluate.scorer != "benchmark":
        return bool(row["correct"])
    return benchmark_score(case, row["text"])


def comparison(
    found: Mapping[str, list[Outcome]], scorer: str, *, train_strata: Collection[str] | None = None
) -> dict[str, Any]:
    """`arms` and `pairs` of results.json. With `train_strata` also by category, subgroup, and whether train has the stratum."""
    pairs: dict[str, dict[str, Any]] = {}
    for first, second in combinations(found, 2):
        pairs[f"{second}-{first}"] = _difference(found[second], found[first], scorer)
    p_values = [pair["p"] for pair in pairs.values()]
    for pair, by_holm, by_rate in zip(pairs.values(), holm(p_values), benjamini_hochberg(p_values), strict=True):
        pair |= {"p_holm": by_holm, "p_bh": by_rate}
    arms = {
        arm: _arm(rows, scorer) | ({} if train_strata is None else _parts(rows, scorer, train_strata))
        for arm, rows in found.items()
    }
    return {"arms": arms, "pairs": pairs}


def _difference(later: list[Outcome], earlier: list[Outcome], scorer: str) -> dict[str, Any]:
    before = {(row.get("seed"), row["case"].id): bool(row[scorer]) for row in earlier}
    a, b = [bool(row[scorer]) for row in later], [before[row.get("seed"), row["case"].id] for row in later]
    by_seed = _by_seed([{**row, "gain": float(x) - float(y)} for row, x, y in zip(later, a, b, strict=True)])
    of_patients: dict[str, Any] = clustered_difference(a, b, [row["case"].group for row in later])
    if len(by_seed) < 2:
        return of_patients
    values, groups = (
        [[read(row) for row in rows] for rows in by_seed]
        for read in (lambda row: row["gain"], lambda row: row["case"].group)
    )
    found = over_seeds(values, groups, limits=(-1.0, 1.0))
    return {
        "difference": found.pop("mean"),
        **found,
        "ci95": _widest(found["ci95"], of_patients["ci95"]),
        "interval": SEEDS,
    }


def _widest(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """An interval over seeds and patients is never narrower than that over patients, which knows what few and equal answers are worth."""
    return [min(first[0], second[0]), max(first[1], second[1])]


def _by_seed(rows: Sequence[Outcome]) -> list[list[Outcome]]:
    """The rows of each seed; one list where they are of one run."""
    seeds: dict[Any, list[Outcome]] = defaultdict(list)
    for row in rows:
        seeds[row.get("seed")].append(row)
    return [seeds[seed] for seed in sorted(seeds, key=str)]


def _arm(rows: list[Outcome], scorer: str) -> dict[str, Any]:
    return {
        **accuracy(rows, scorer),
        "unparsed": sum(not row["well_formed"] for row in rows),
        "cost": {
            "tokens": sum(row["tokens"] for row in rows),
            "prompt_tokens": sum(row["prompt_tokens"] for row in rows),
        },
        "by_stratum": _accuracies(rows, scorer, lambda row: row["stratum"]),
        **({"measures": measures} if (measures := _measures(rows)) else {}),
    }


def _parts(rows: list[Outcome], scorer: str, train_strata: Collection[str]) -> dict[str, Any]:
    return {
        "by_category": _accuracies(rows, scorer, lambda row: "/".join(row["stratum"].split("/")[:2])),
        **(
            {"by_seen": _accuracies(rows, scorer, lambda row: "seen" if row["stratum"] in train_strata else "unseen")}
            if train_strata
            else {}
        ),
        "subgroups": {name: _accuracies(rows, scorer, partial(_of_case, of)) for name, of in SUBGROUPS.items()},
    }


def _of_case(subgroup: Callable[[Case], str], row: Outcome) -> str:
    return subgroup(row["case"])


def _accuracies(rows: list[Outcome], scorer: str, key: Callable[[Outcome], str]) -> dict[str, Any]:
    by_key: dict[str, list[Outcome]] = defaultdict(list)
    for row in rows:
        by_key[key(row)].append(row)
    return {name: accuracy(by_key[name], scorer) for name in sorted(by_key)}


def accuracy(rows: list[Outcome], scorer: str) -> dict[str, Any]:
    """`groups` are the patients or notes that the cases belong to; `interval` says how `ci95` was made. Of several seeds also the figure of
    each and their spread."""
    right, groups = [float(row[scorer]) for row in rows], [row["case"].group for row in rows]
    correct, found = int(sum(right)), mean_interval(right, groups)
    figure: dict[str, Any] = {
        "n": len(rows),
        "correct": correct,
        "accuracy": correct / max(1, len(rows)),
        "ci95": [found.low, found.high],
        "groups": len(set(groups)),
        "interval": found.method,
    }
    by_seed = _by_seed(rows)
    if len(by_seed) < 2:
        return figure
    seeds = over_seeds(
        [[float(row[scorer]) for row in of] for of in by_seed], [[row["case"].group for row in of] for of in by_seed]
    )
    pooled = {"accuracy": seeds["mean"], "ci95": _widest(seeds["ci95"], figure["ci95"]), "interval": SEEDS}
    return {**figure, **pooled, "per_seed": seeds["per_seed"], "sd": seeds["sd"]}


def _measures(rows: list[Outcome]) -> dict[str, Any]:
    """{family/task: the family's own measures}, for families that have some."""
    by_task: dict[str, list[Outcome]] = defaultdict(list)
    for row in rows:
        by_task[f"{row['case'].family}/{row['case'].task}"].append(row)
    found = {}
    for name in sorted(by_task):
        cases, answers, shares = columns(by_task[name])
        if figures := tasks.of(cases[0]).measures(cases, answers, shares):
            found[name] = figures
    return found


def columns(rows: Sequence[Outcome]) -> tuple[list[Case], list[Any], list[Any]]:
    """(cases, answers, probabilities of the labels)"""
    return [row["case"] for row in rows], [row["answer"] for row in rows], [row["probabilities"] for row in rows]
