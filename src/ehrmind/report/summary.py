"""The sentences on top of the page, in the order of what a reader must know: what got better, what
got worse, whether the reasoning and the cases can be trusted, and what the pilot had found."""

from __future__ import annotations

from collections.abc import Iterator

from ehrmind.report.formatting import arm_name, interval, number, p_value, percent, points
from ehrmind.report.reading import Figures
from ehrmind.report.tables.baselines import baseline_sentence
from ehrmind.report.tables.contamination import contamination_sentence
from ehrmind.report.tables.forgetting import forgetting_sentence
from ehrmind.report.tables.process_audit import flawed_sentence
from ehrmind.report.tables.results import pooled
from ehrmind.runs.records import LabelMeasures, PairResult


def summary(figures: Figures) -> list[str]:
    """The findings of the run, the headline first."""
    best = _best(figures)
    return [
        *_risk_sentences(figures, best),
        _headline(figures, best),
        *baseline_sentence(figures, best),
        *_worse_sentence(figures, best),
        *forgetting_sentence(figures.results),
        *flawed_sentence(figures, best),
        *contamination_sentence(figures.results.contamination),
        *_pilot_sentence(figures),
    ]


def _best(figures: Figures) -> str:
    """The arm that has the most training."""
    arms = figures.results.arms
    return next((arm for arm in ("sft_rlvr", "rlvr", "sft") if arm in arms), next(iter(arms)))


def _others(figures: Figures, best: str) -> list[str]:
    """The arms that the best one is compared with: base, then the one that it started from."""
    found = [arm for arm in ("base", "sft") if arm in figures.results.arms and arm != best]
    return found or [arm for arm in figures.results.arms if arm != best][:1]


def _risk_sentences(figures: Figures, best: str) -> Iterator[str]:
    """The AUROC of every task that predicts risks, because accuracy says little where one outcome
    is rare."""
    results = figures.results
    everyone = {name: results.arms[name].measures for name in (best, *_others(figures, best))} | dict(results.baselines)
    for task, row in results.arms[best].measures.items():
        if row.risk is None or row.risk.auroc is None:
            continue
        first, *rest = (
            f"{arm_name(name)} {_auroc(measures[task])}" for name, measures in everyone.items() if task in measures
        )
        said = f"{first} of {row.risk.n:,} held-out cases, {number(row.risk.positive)} with the outcome"
        yield f"AUROC on {task}: {'; '.join([said, *rest])}."


def _auroc(row: LabelMeasures) -> str:
    risk = row.risk
    if risk is None or risk.auroc is None:
        return "none"
    bounds = risk.ci95.get("auroc")
    return f"{risk.auroc:.3f}" + (f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else "")


def _headline(figures: Figures, best: str) -> str:
    results, found = figures.results, figures.results.arms[best]
    said = (
        f"{arm_name(best)} answers {percent(found.accuracy)} of {found.n:,} held-out cases right "
        f"(95 % interval {interval(found.ci95)}, {results.decoding} decoding)"
    )
    for arm in _others(figures, best):
        said += f"; {arm_name(arm)} {percent(results.arms[arm].accuracy)}"
        if (pair := results.pairs.get(f"{best}-{arm}")) is not None:
            said += f", a difference of {_difference(pair)}"
    if (majority := results.baseline_accuracy.get("majority_label")) is not None:
        said += f"; always the commonest label {percent(majority.accuracy)}"
    return f"{said}."


def _worse_sentence(figures: Figures, best: str) -> list[str]:
    """Names the sets on which the best arm is surely worse than base: the interval of the paired
    difference lies below 0. General questions have a sentence of their own."""
    sets = {"the held-out cases": figures.results, **figures.results.transfer}
    pairs = {name: pair for name, found in sets.items() if (pair := found.pairs.get(f"{best}-base")) is not None}
    if not pairs:
        return []
    worse = [f"{name} by {_difference(pair)}" for name, pair in pairs.items() if pair.ci95[1] < 0]
    if worse:
        return [f"{arm_name(best)} is worse than Base on {'; '.join(worse)}."]
    if figures.results.transfer:
        return [f"On none of {len(pairs)} sets of cases is {arm_name(best)} worse than Base beyond chance."]
    if figures.results.forgetting:
        return []
    return ["Other cases than the held-out ones were not asked, so nothing is known of losses elsewhere."]


def _difference(pair: PairResult) -> str:
    return f"{points(pair.difference)} points ({interval(pair.ci95)}, {p_value(pair.p)})"


def _pilot_sentence(figures: Figures) -> list[str]:
    if figures.pilot is None:
        return []
    strata, k = figures.pilot.by_stratum, figures.pilot.samples
    missing = figures.pilot.strata("missing")
    if not missing:
        return [f"In the pilot the base model had a right answer among {k} samples in each of {len(strata)} strata."]
    there = ""
    if "rlvr" in figures.arms and (found := pooled(figures, "rlvr", missing)).n:
        there = f"; RLVR alone reaches {percent(found.accuracy)} there ({interval(found.ci95)})"
    hardly = "hardly a sample" if any(strata[stratum].correct for stratum in missing) else "no sample"
    return [
        f"In the pilot {hardly} of the base model was right in {len(missing)} of {len(strata)} strata, so that "
        f"reinforcement had nothing to reinforce{there}."
    ]
