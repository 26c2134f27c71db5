"""The sentences on top of the page: headline, baseline, reasoning, pilot, contamination,
forgetting."""

from __future__ import annotations

from ehrmind.report.formatting import arm_name, interval, p_value, percent, points
from ehrmind.report.reading import Figures
from ehrmind.report.tables.baselines import baseline_sentence
from ehrmind.report.tables.contamination import contamination_sentence
from ehrmind.report.tables.forgetting import forgetting_sentence
from ehrmind.report.tables.process_audit import flawed_sentence
from ehrmind.report.tables.results import pooled


def summary(figures: Figures) -> list[str]:
    """The findings of the run, the headline first."""
    best = _best(figures)
    return [
        _headline(figures, best),
        *baseline_sentence(figures, best),
        *flawed_sentence(figures, best),
        *_pilot_sentence(figures),
        *contamination_sentence(figures.results.contamination),
        *forgetting_sentence(figures.results),
    ]


def _best(figures: Figures) -> str:
    """The arm that has the most training."""
    arms = figures.results.arms
    return next((arm for arm in ("sft_rlvr", "rlvr", "sft") if arm in arms), next(iter(arms)))


def _headline(figures: Figures, best: str) -> str:
    arms = figures.results.arms
    other = next((arm for arm in ("sft", "base", *arms) if arm in arms and arm != best), None)
    found = arms[best]
    said = (
        f"{arm_name(best)} answers {percent(found.accuracy)} of {found.n:,} held-out cases right "
        f"(95 % interval {interval(found.ci95)}, {figures.results.decoding} decoding)"
    )
    pair = figures.results.pairs.get(f"{best}-{other}")
    if other is None or pair is None:
        return f"{said}."
    return (
        f"{said}, {arm_name(other)} {percent(arms[other].accuracy)}: a difference of {points(pair.difference)} "
        f"points ({interval(pair.ci95)}, {p_value(pair.p)})."
    )


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
