"""From the pilot to what to do: RLVR alone, or a warm-up first, on which strata, with which traces, and what to expect of it.

Written to plan.json before anything is trained, followed where the recipe says `stages: auto`, and held against what came
of it afterwards (gains.json). Definitions stand in docs/pilot.md.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ehrmind.config import Recipe
from ehrmind.stages.pilot.diagnosis import MISAPPLIED, MISSING, beyond_chance, strata_of
from ehrmind.statistics.calibration import r_squared
from ehrmind.types import Case

# Of expected_gain: the share of the headroom in reach that is won, the number of draws that RLVR's search is worth, and the standard
# deviation of what is left. Fitted by `benchmarks/pilot_predicts.py --fit`, on seeds that no figure is reported of.
PREDICTOR = {"won": 0.81, "draws": 65.1, "sd": 0.15}
REHEARSAL = 1.0  # answers in the other strata, per trace
MOST_TRACES = 1000  # a stratum, where the recipe does not say
Z = 1.96


def make_plan(recipe: Recipe, diagnosis: Mapping[str, Any], train: Sequence[Case]) -> dict[str, Any]:
    """`warm_up` is None where RLVR alone will do. Keys that the recipe itself sets win over the pilot's advice."""
    missing = strata_of(diagnosis, MISSING)
    available = _worked_answers(recipe, train)
    if _learns_from_the_pilot(recipe, [available[stratum] for stratum in missing]):
        available = {stratum: int(figures["correct"]) for stratum, figures in diagnosis["by_stratum"].items()}
    warmed = [stratum for stratum in missing if available.get(stratum)]
    most = recipe.warmup.traces_per_stratum or MOST_TRACES
    traces = {stratum: min(most, available[stratum]) for stratum in warmed}
    plan: dict[str, Any] = {
        "warm_up": _warm_up(recipe, train, warmed, traces, available) if warmed else None,
        "arms": ["base", "sft", "sft_rlvr"] if warmed else ["base", "rlvr"],
        "without_worked_answers": [stratum for stratum in missing if stratum not in warmed],
        "because": _because(diagnosis, warmed),
        "expected": {"rlvr": {stratum: expected_gain(figures) for stratum, figures in diagnosis["by_stratum"].items()}},
    }
    if "arms" in recipe.model_fields_set:
        plan["arms"] = list(recipe.arms)
    if "strata" in recipe.warmup.model_fields_set and plan["warm_up"]:
        plan["warm_up"]["strata"] = recipe.warmup.strata
    return plan


def _warm_up(
    recipe: Recipe,
    train: Sequence[Case],
    warmed: Sequence[str],
    traces: Mapping[str, int],
    available: Mapping[str, int],
) -> dict[str, Any]:
    """As many answers elsewhere as traces: learning some strata alone spoils the others (benchmarks/ablation.py). Worked ones, where the
    other strata have them; what the recipe itself says of rehearsal wins."""
    kind, said = _kind_of_traces(recipe, train, warmed), recipe.warmup.model_fields_set
    others = {case.stratum for case in train} - set(warmed)
    there = all(available.get(stratum) for stratum in others) and _kind_of_traces(recipe, train, list(others)) == kind
    everywhere = "strata" in said and recipe.warmup.strata == "all"
    worked = recipe.warmup.rehearse == "worked" if "rehearse" in said else there
    return {
        "strata": list(warmed),
        "traces": kind,
        "traces_per_stratum": dict(traces),
        "rehearsal": recipe.warmup.rehearsal if "rehearsal" in said or not others or everywhere else REHEARSAL,
        "rehearse": "worked" if worked and kind in ("source", "calculators") else "own",
    }


def planned(recipe: Recipe, plan: Mapping[str, Any]) -> Recipe:
    """The recipe as the plan has it, where the recipe follows it."""
    if recipe.stages != "auto":
        return recipe
    changes: dict[str, Any] = {"arms": plan["arms"]}
    if plan["warm_up"]:
        most = max(plan["warm_up"]["traces_per_stratum"].values())
        asked = {key: plan["warm_up"][key] for key in ("strata", "traces", "rehearsal", "rehearse")} | {
            "traces_per_stratum": most
        }
        changes["warmup"] = recipe.warmup.model_copy(update=asked)
    return recipe.model_copy(update=changes)


def expected_gain(figures: Mapping[str, Any]) -> dict[str, float]:
    """What RLVR alone is expected to add to the accuracy of a stratum, with a 95 % interval of prediction."""
    before = figures["pass@1"]
    gain = PREDICTOR["won"] * headroom_in_reach(figures, PREDICTOR["draws"])
    noise = math.hypot(PREDICTOR["sd"], math.sqrt(before * (1 - before) / max(1, figures["questions"])))
    return {"gain": gain, "low": max(-before, gain - Z * noise), "high": min(1 - before, gain + Z * noise)}


def headroom_in_reach(figures: Mapping[str, Any], draws: float) -> float:
    """Accuracy that is wanting to 1: all of it in questions that most samples solve, and in the others (unsettled) as much as the
    chance that one of `draws` samples is right there and not by luck."""
    unsettled = figures["unsettled"]
    of_unsettled = (1 - unsettled["pass@1"]) * unsettled["questions"] / max(1, figures["questions"])
    chance = 1 - (1 - max(0.0, beyond_chance(unsettled["pass@1"], unsettled["chance"]))) ** draws
    return 1 - float(figures["pass@1"]) - of_unsettled * (1 - chance)


def compare_gains(plan: Mapping[str, Any], diagnosis: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """Predicted against obtained, stratum by stratum, for the arm that is RLVR from the base; empty where it was not trained. Obtained is
    measured where the pilot measured: on sampled answers, where the recipe has them."""
    view = results.get("sampled", results)
    if not {"base", "rlvr"} <= view["arms"].keys():
        return {}
    before, after = (view["arms"][arm]["by_stratum"] for arm in ("base", "rlvr"))
    rows = {
        stratum: {
            "kind": diagnosis["by_stratum"][stratum]["kind"],
            "n": after[stratum]["n"],
            "predicted": expected["gain"],
            "low": expected["low"],
            "high": expected["high"],
            "obtained": after[stratum]["accuracy"] - before[stratum]["accuracy"],
        }
        for stratum, expected in plan["expected"]["rlvr"].items()
        if stratum in after
    }
    found = {
        "decoding": "sampled" if "sampled" in results else results["decoding"],
        "by_stratum": rows,
        "r2": _r2(list(rows.values())),
    }
    return found | {"r2_misapplied": _r2([row for row in rows.values() if row["kind"] == MISAPPLIED])}


def _r2(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """None where there is nothing to explain."""
    value = (
        r_squared([row["obtained"] for row in rows], [row["predicted"] for row in rows]) if len(rows) > 1 else math.nan
    )
    return value if math.isfinite(value) else None


def _worked_answers(recipe: Recipe, train: Sequence[Case]) -> dict[str, int]:
    """Cases by stratum that some way leads to a worked answer of: their own, the calculators', or a teacher's."""
    found: dict[str, int] = defaultdict(int)
    for case in train:
        found[case.stratum] += bool(case.rationale) or _calculable(case) or recipe.teacher is not None
    return found


def _learns_from_the_pilot(recipe: Recipe, worked: Sequence[int]) -> bool:
    """The recipe says so, or no missing stratum has a worked answer from elsewhere: a bare label would
    teach the model to answer without reasoning."""
    return recipe.warmup.traces == "pilot" if "traces" in recipe.warmup.model_fields_set else not any(worked)


def _calculable(case: Case) -> bool:
    return case.family == "medcalc" and bool({"inputs", "entities"} & case.provenance.keys())


def _kind_of_traces(recipe: Recipe, train: Sequence[Case], strata: Sequence[str]) -> str:
    """The recipe's, if it says; else the data's own where every case has one, the calculators' where they can be worked, a teacher's,
    the data's own where some have one, the model's own right answers in the pilot."""
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


def _because(diagnosis: Mapping[str, Any], warmed: Sequence[str]) -> list[str]:
    """In sentences."""
    kinds = {kind: strata_of(diagnosis, kind) for kind in ("solid", MISAPPLIED, MISSING)}
    said = [
        f"{len(kinds['solid'])} strata are solid, {len(kinds[MISAPPLIED])} misapplied, {len(kinds[MISSING])} missing."
    ]
    if not kinds[MISSING]:
        return [*said, "No knowledge is missing: RLVR alone has right answers to reinforce in every stratum."]
    said.append("RLVR has nothing to reinforce where knowledge is missing, so a warm-up brings it in first.")
    if unreachable := len(kinds[MISSING]) - len(warmed):
        said.append(f"{unreachable} of them have no worked answer: give explanations, or a teacher.")
    causes: dict[str, int] = defaultdict(int)
    for figures in diagnosis["by_stratum"].values():
        if figures.get("cause"):
            causes[figures["cause"]] += 1
    if causes:
        said.append(
            f"They fail at {', '.join(f'{cause} ({n})' for cause, n in sorted(causes.items(), key=lambda pair: -pair[1]))}."
        )
    if "arithmetic" in causes:
        said.append("Where arithmetic fails, prompts.tool lets the model call the calculators.")
    return said
