"""The plan that follows from the pilot: RLVR alone or a warm-up first, its strata and traces, and
the gain to expect.

It is written to plan.json before any training, followed if the recipe says `stages: auto`, and
compared with the results afterwards (gains.json). docs/pilot.md has the definitions."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ehrmind.config import Recipe
from ehrmind.runs.records import (
    Comparison,
    Diagnosis,
    ExpectedGain,
    ExpectedGains,
    Gains,
    PilotFigures,
    Plan,
    Results,
    StratumGain,
    WarmUpPlan,
)
from ehrmind.stages.pilot.diagnosis import MISAPPLIED, MISSING, beyond_chance
from ehrmind.statistics.calibration import r_squared
from ehrmind.types import Case

# For expected_gain: the share of the reachable headroom that is won, the number of draws that
# RLVR's search is worth, and the standard deviation of the residual. Fitted by
# `benchmarks/pilot_predicts.py --fit`, on seeds of which no figure is reported.
PREDICTOR = {"won": 0.81, "draws": 65.1, "sd": 0.15}
REHEARSAL = 1.0  # answers in the other strata, per trace
MOST_TRACES = 1000  # per stratum, if the recipe does not say
Z = 1.96


def make_plan(recipe: Recipe, diagnosis: Diagnosis, train: Sequence[Case]) -> Plan:
    """Makes the plan. Keys that the recipe itself sets win over the pilot's advice."""
    missing = diagnosis.strata(MISSING)
    available = _worked_answers(recipe, train)
    if _learns_from_the_pilot(recipe, [available[stratum] for stratum in missing]):
        available = {stratum: figures.correct for stratum, figures in diagnosis.by_stratum.items()}
    warmed = [stratum for stratum in missing if available.get(stratum)]
    most = recipe.warmup.traces_per_stratum or MOST_TRACES
    traces = {stratum: min(most, available[stratum]) for stratum in warmed}
    arms: Sequence[str] = ("base", "sft", "sft_rlvr") if warmed else ("base", "rlvr")
    return Plan(
        warm_up=_warm_up(recipe, train, warmed, traces, available) if warmed else None,
        arms=tuple(recipe.arms if "arms" in recipe.model_fields_set else arms),
        without_worked_answers=tuple(stratum for stratum in missing if stratum not in warmed),
        because=(*_because(diagnosis, warmed), *_about_form(diagnosis.overall, recipe.decoding.max_new_tokens)),
        expected=ExpectedGains(
            rlvr={stratum: expected_gain(figures) for stratum, figures in diagnosis.by_stratum.items()}
        ),
    )


def _warm_up(
    recipe: Recipe,
    train: Sequence[Case],
    warmed: Sequence[str],
    traces: Mapping[str, int],
    available: Mapping[str, int],
) -> WarmUpPlan:
    """Plans a warm-up that rehearses as many answers in the other strata as it has traces, because
    learning some strata alone spoils the others (benchmarks/ablation.py). It rehearses worked
    answers if the other strata have them. The recipe's own rehearsal wins."""
    kind, said = _kind_of_traces(recipe, train, warmed), recipe.warmup.model_fields_set
    others = {case.stratum for case in train} - set(warmed)
    there = all(available.get(stratum) for stratum in others) and _kind_of_traces(recipe, train, list(others)) == kind
    everywhere = "strata" in said and recipe.warmup.strata == "all"
    worked = recipe.warmup.rehearse == "worked" if "rehearse" in said else there
    chosen = recipe.warmup.strata
    return WarmUpPlan(
        strata=tuple(warmed) if "strata" not in said else chosen if isinstance(chosen, str) else tuple(chosen),
        traces=kind,
        traces_per_stratum=dict(traces),
        rehearsal=recipe.warmup.rehearsal if "rehearsal" in said or not others or everywhere else REHEARSAL,
        rehearse="worked" if worked and kind in ("source", "calculators") else "own",
    )


def planned(recipe: Recipe, plan: Plan) -> Recipe:
    """Returns the recipe that follows the plan, if the recipe says so; else the recipe itself."""
    if recipe.stages != "auto":
        return recipe
    changes: dict[str, object] = {"arms": list(plan.arms)}
    if (warm_up := plan.warm_up) is not None:
        asked = {
            "strata": warm_up.strata if isinstance(warm_up.strata, str) else list(warm_up.strata),
            "traces": warm_up.traces,
            "rehearsal": warm_up.rehearsal,
            "rehearse": warm_up.rehearse,
            "traces_per_stratum": max(warm_up.traces_per_stratum.values()),
        }
        changes["warmup"] = recipe.warmup.model_copy(update=asked)
    return recipe.model_copy(update=changes)


def expected_gain(figures: PilotFigures) -> ExpectedGain:
    """Returns the accuracy that RLVR alone is expected to add in a stratum, with a 95 % prediction
    interval."""
    before = figures.pass_at_1
    gain = PREDICTOR["won"] * headroom_in_reach(figures, PREDICTOR["draws"])
    noise = math.hypot(PREDICTOR["sd"], math.sqrt(before * (1 - before) / max(1, figures.questions)))
    return ExpectedGain(gain=gain, low=max(-before, gain - Z * noise), high=min(1 - before, gain + Z * noise))


def headroom_in_reach(figures: PilotFigures, draws: float) -> float:
    """Returns the part of 1 − pass@1 that training can reach: all of it in questions that most
    samples solve. In the others (unsettled) it is weighted by the probability that one of `draws`
    samples is right, and not by chance."""
    unsettled = figures.unsettled
    of_unsettled = (1 - unsettled.pass_at_1) * unsettled.questions / max(1, figures.questions)
    chance = 1 - (1 - max(0.0, beyond_chance(unsettled.pass_at_1, unsettled.chance))) ** draws
    return 1 - figures.pass_at_1 - of_unsettled * (1 - chance)


def compare_gains(plan: Plan, diagnosis: Diagnosis, results: Results) -> Gains | None:
    """Compares predicted with obtained gains by stratum, for the arm that is RLVR from the base;
    None if that was not trained. The obtained gain is measured as the pilot measures, on sampled
    answers, if the recipe has them."""
    view: Comparison = results if results.sampled is None else results.sampled
    if not {"base", "rlvr"} <= view.arms.keys():
        return None
    before, after = (view.arms[arm].by_stratum for arm in ("base", "rlvr"))
    rows = {
        stratum: StratumGain(
            kind=diagnosis.by_stratum[stratum].kind,
            n=after[stratum].n,
            predicted=expected.gain,
            low=expected.low,
            high=expected.high,
            obtained=after[stratum].accuracy - before[stratum].accuracy,
        )
        for stratum, expected in plan.expected.rlvr.items()
        if stratum in after
    }
    return Gains(
        decoding=results.decoding if results.sampled is None else "sampled",
        by_stratum=rows,
        r2=_r2(list(rows.values())),
        r2_misapplied=_r2([row for row in rows.values() if row.kind == MISAPPLIED]),
    )


def _r2(rows: Sequence[StratumGain]) -> float | None:
    """Returns R² of the predicted gains; None if the obtained ones do not vary."""
    value = r_squared([row.obtained for row in rows], [row.predicted for row in rows]) if len(rows) > 1 else math.nan
    return value if math.isfinite(value) else None


def _worked_answers(recipe: Recipe, train: Sequence[Case]) -> dict[str, int]:
    """Counts cases per stratum that have a worked answer: their own, the calculators', or a
    teacher's."""
    found: dict[str, int] = defaultdict(int)
    for case in train:
        found[case.stratum] += bool(case.rationale) or _calculable(case) or recipe.teacher is not None
    return found


def _learns_from_the_pilot(recipe: Recipe, worked: Sequence[int]) -> bool:
    """Tells whether the traces are the model's own: the recipe says so, or no missing stratum has
    another worked answer. A bare label would teach the model to answer without reasoning."""
    return recipe.warmup.traces == "pilot" if "traces" in recipe.warmup.model_fields_set else not any(worked)


def _calculable(case: Case) -> bool:
    return case.family == "medcalc" and bool({"inputs", "entities"} & case.provenance.keys())


def _kind_of_traces(recipe: Recipe, train: Sequence[Case], strata: Sequence[str]) -> str:
    """Chooses where traces come from: the recipe's choice, if it makes one. Else the first of these
    that is possible: the data, if every case has a worked answer; the calculators; a teacher; the
    data, if some cases have one; the pilot's right answers."""
    if "traces" in recipe.warmup.model_fields_set:
        return recipe.warmup.traces
    cases = [case for case in train if case.stratum in set(strata)]
    if all(case.rationale for case in cases):
        return "source"
    if all(map(_calculable, cases)):
        return "calculators"
    if recipe.teacher is not None:
        return "teacher"
    return "source" if any(case.rationale for case in cases) else "pilot"


def _about_form(overall: PilotFigures | None, limit: int) -> list[str]:
    """Says why most answers are not in the form asked for, and which key changes that."""
    if overall is None or overall.format_rate >= 0.5:
        return []
    malformed = f"{1 - overall.format_rate:.0%} of the answers are not in the form asked for"
    if overall.truncated >= 0.5:
        return [
            f"{malformed}, and {overall.truncated:.0%} were cut at the limit of {limit} tokens: raise "
            "decoding.max_new_tokens, or let a warm-up teach short answers."
        ]
    return [f"{malformed}: a warm-up teaches the form."]


def _because(diagnosis: Diagnosis, warmed: Sequence[str]) -> list[str]:
    """Gives the reasons in sentences."""
    kinds = {kind: diagnosis.strata(kind) for kind in ("solid", MISAPPLIED, MISSING)}
    said = [
        f"{len(kinds['solid'])} strata are solid, {len(kinds[MISAPPLIED])} misapplied, {len(kinds[MISSING])} missing."
    ]
    if not kinds[MISSING]:
        return [*said, "No knowledge is missing: RLVR alone has right answers to reinforce in every stratum."]
    said.append("RLVR has nothing to reinforce where knowledge is missing, so a warm-up brings it in first.")
    if unreachable := len(kinds[MISSING]) - len(warmed):
        said.append(f"{unreachable} of them have no worked answer: give explanations, or a teacher.")
    causes: dict[str, int] = defaultdict(int)
    for figures in diagnosis.by_stratum.values():
        if figures.cause:
            causes[figures.cause] += 1
    if causes:
        said.append(
            "They fail at"
            f" {', '.join(f'{cause} ({n})' for cause, n in sorted(causes.items(), key=lambda pair: -pair[1]))}."
        )
    if "arithmetic" in causes:
        said.append("Where arithmetic fails, prompts.tool lets the model call the calculators.")
    return said
