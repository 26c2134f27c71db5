"""What a run's figures rest on beside versions and digests: what it took, under which licences its data stand, and where it departs from
the paper and from what was planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ehrmind.config import split_arm
from ehrmind.report.formatting import ABSENT, Cell, Table, arm_name, duration, number
from ehrmind.report.reading import Figures

Rows = list[list[str | Cell]]
LEARNT_IN: dict[str, tuple[str, ...]] = {
    "base": (),
    "rlvr": ("rlvr-rlvr",),
    "sft": ("warmup",),
    "sft_rlvr": ("warmup", "rlvr-sft_rlvr"),
}
UNKNOWN = Cell("not stated", "its owner's terms hold", "warn")
MADE_UP = Cell("none needed", "made up here, nobody's data")
# What arXiv 2505.24105 states of its runs, by key of the recipe.
PAPER: dict[tuple[str, ...], Any] = {
    ("prompts", "think"): True,
    ("decoding", "temperature"): 0.6,
    ("decoding", "top_p"): 0.95,
    ("reward", "malformed"): -2.0,
    ("reward", "wrong"): 0.0,
    ("reward", "correct"): 1.0,
    ("reward", "correct_format"): 0.1,
    ("warmup", "learning_rate"): 2e-5,
    ("warmup", "batch"): 16,
    ("warmup", "epochs"): 2,
    ("rlvr", "learning_rate"): 1e-6,
    ("rlvr", "questions_per_step"): 32,
    ("rlvr", "samples"): 12,
    ("rlvr", "advantage"): "grpo",
    ("rlvr", "kl"): 0.001,
}


def origin(figures: Figures) -> dict[str, Table | None]:
    return {"cost": cost(figures), "licences": licences(figures), "deviations": deviations(figures)}


def cost(figures: Figures) -> Table:
    """Time, answers and tokens of every arm; money only where an endpoint's prices are known."""
    seconds = figures.results["seconds"]
    rows: Rows = []
    money: list[float | None] = []
    for arm, row in figures.results["arms"].items():
        stages = () if arm in figures.recipe.get("endpoints", {}) else LEARNT_IN[split_arm(arm)[0]]
        learnt = sum(seconds.get(stage, 0.0) for stage in stages)
        spent = row.get("cost", {})
        money.append(_money(figures, row, stages))
        scored = spent.get("seconds", seconds.get(f"evaluate-{arm}-{figures.results['decoding']}"))
        rows.append(
            [
                arm_name(arm),
                duration(learnt) if stages else ABSENT,
                number(_sampled(figures, stages)),
                duration(scored) if scored is not None else ABSENT,
                number(spent.get("prompt_tokens")),
                number(spent.get("tokens")),
            ]
        )
    caption = (
        "What each arm took: learning (a warm-up counts for every arm that starts from it), and scoring the held-out cases once, "
        f"{figures.results['decoding']} decoding."
    )
    titles = ["Arm", "Learning", "Answers sampled to learn", "Scoring", "Tokens read", "Tokens written"]
    if not any(money):
        return Table(caption, titles, rows)
    told = [[*row, number(paid)] for row, paid in zip(rows, money, strict=True)]
    return Table(
        f"{caption} Money is what endpoints cost by the recipe's prices, the teacher's included.",
        [*titles, "Money"],
        told,
    )


def _sampled(figures: Figures, stages: Sequence[str]) -> int | None:
    """Answers of RLVR's questions, refilled ones included; None where no stage of the arm has them or an older run did not count."""
    asked = [figures.marks.get(stage, {}).get("asked_by_stratum") for stage in stages if stage.startswith("rlvr-")]
    if not asked or None in asked:
        return None
    return sum(sum(counts.values()) for counts in asked if counts) * int(figures.recipe["rlvr"]["samples"])


def _money(figures: Figures, row: Mapping[str, Any], stages: Sequence[str]) -> float | None:
    if "endpoint" in row:
        return row["endpoint"].get("cost")
    teacher = figures.marks.get("warmup", {}).get("teacher") if "warmup" in stages else None
    return teacher["cost"] if teacher else None


def licences(figures: Figures) -> Table:
    """As the recipe says, else by the kind of each source; a run reads no licence from files."""
    data = figures.recipe.get("data", {})
    asked = {split.replace("_", "-"): data.get(split) for split in ("train", "tuning", "held_out")} | dict(
        data.get("transfer") or {}
    )
    if general := (figures.recipe.get("evaluate") or {}).get("general"):
        asked["general"] = general.get("source") or {"synthetic": {}}
    rows: Rows = []
    for place, source in asked.items():
        if source is None or source.get("share_of_train"):
            continue
        kind, names, licence = _source(source)
        licence = Cell(source["licence"], "as the recipe says") if source.get("licence") else licence
        stays = bool(source.get("restricted")) or kind == "EHRSHOT release"
        rows.append([place, kind, ", ".join(names) or ABSENT, licence, "never leaves the machine" if stays else ABSENT])
    name = (figures.recipe.get("model") or {}).get("name")
    shown = figures.provenance.get("model", {}).get("name") or (Path(name).name if name else "tiny")
    rows.append(["base model", "weights", shown, UNKNOWN if name else MADE_UP, ABSENT])
    caption = (
        "Licences of data and base model, as the recipe says (licence) or their kind tells; a run reads none from files. What was "
        "trained on restricted data is as restricted as they are."
    )
    return Table(caption, ["For", "Kind", "Name", "Licence", "Marked"], rows)


def _source(source: Mapping[str, Any]) -> tuple[str, list[str], Cell]:
    """(kind, names of files without folders, licence)"""
    if source.get("synthetic") is not None:
        return "made-up cases", [], MADE_UP
    if source.get("medcalc"):
        published = Cell(
            "CC BY-SA 4.0", "MedCalc-Bench's own files (arXiv 2406.12036); other files in its form have their owner's"
        )
        return "MedCalc-Bench files", [Path(file).name for file in source["medcalc"]], published
    if (ehr := source.get("ehr")) and ehr.get("ehrshot"):
        signed = Cell("data use agreement", "EHRSHOT's (arXiv 2307.02028), signed by everyone who uses it", "warn")
        return "EHRSHOT release", [Path(ehr["ehrshot"]).name], signed
    if ehr:
        named = Cell("not stated", "its owner's terms hold; metadata/dataset.json may name them", "warn")
        return "MEDS data set", [Path(ehr["meds"]).name], named
    if trials := source.get("trials"):
        terms = Cell("not stated", "topics and registry records have terms of their own", "warn")
        return "patients and trials", [Path(trials["topics"]).name, Path(trials["qrels"]).name], terms
    if table := source.get("table"):
        return "table", [Path(table["path"]).name], UNKNOWN
    return "Cases files", [Path(file).name for file in source.get("cases") or []], UNKNOWN


def deviations(figures: Figures) -> Table | None:
    """None where there is nothing to tell."""
    rows: Rows = [*_from_paper(figures.recipe), *_from_plan(figures)]
    caption = (
        "Where this run departs from the reward, sampling, warm-up and GRPO settings of the paper (arXiv 2505.24105), as far as it states "
        "them, and from what was planned."
    )
    return Table(caption, ["What", "Here", "There"], rows) if rows else None


def _from_paper(recipe: Mapping[str, Any]) -> Iterator[list[str | Cell]]:
    models = {split_arm(arm)[0] for arm in recipe.get("arms", [])}
    unused = {"warmup"} - ({"warmup"} if models & {"sft", "sft_rlvr"} else set())
    unused |= {"rlvr", "reward"} - ({"rlvr", "reward"} if models & {"rlvr", "sft_rlvr"} else set())
    for (part, key), stated in PAPER.items():
        here = (recipe.get(part) or {}).get(key)
        if here is None or here == stated or part in unused:
            continue
        yield [f"{part}.{key}", _value(here), Cell(_value(stated), "the paper")]
    for name, more in (recipe.get("reward") or {}).get("extra", {}).items() if "reward" not in unused else ():
        yield [f"reward.extra.{name}", f"{more['function']}, weight {_value(more['weight'])}", Cell("none", "the paper")]


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value).lower()


def _from_plan(figures: Figures) -> Iterator[list[str | Cell]]:
    """What happened on the way: scored again, stopped, left out, recomputed, unanswered."""
    times: dict[str, int] = {}
    for scoring in figures.results.get("held_out_scorings", []):
        key = f"{arm_name(scoring['arm'])}, {scoring['decoding']}, seed {scoring['seed']}"
        times[key] = times.get(key, 0) + 1
    for key, count in times.items():
        if count > 1:
            yield [f"held-out cases scored: {key}", Cell(f"{count} times", tone="warn"), "once"]
    for stage, mark in figures.marks.items():
        if mark.get("stopped"):
            yield [
                f"{stage}: steps",
                Cell(number(mark.get("step")), str(mark["stopped"])),
                number(figures.recipe["rlvr"]["steps"]),
            ]
        if mark.get("left_out_too_long"):
            yield [f"{stage}: prompts left out as too long", number(mark["left_out_too_long"]), "0"]
        if mark.get("without_reasoning"):
            taught = f"{number(mark['without_reasoning'])} answers without reasoning"
            yield [
                f"{stage}: what was taught",
                Cell(taught, "the data have no worked answers", tone="warn"),
                "worked answers",
            ]
    data = figures.provenance.get("data", {})
    if dropped := data.get("train_notes_also_held_out_dropped"):
        yield ["training cases dropped, held-out has their note", number(dropped), "0"]
    for place, read in (data.get("sources") or {}).items():
        for reason, count in (read.get("left_out") or {}).items():
            yield [f"{place.replace('_', '-')}: {reason}", f"{number(count)} left out", "0"]
    for split in ("train", "tuning", "held_out"):
        if ((figures.recipe.get("data") or {}).get(split) or {}).get("recompute"):
            yield [f"labels of {split.replace('_', '-')}", "recomputed by the published formulas", "as stored"]
    for arm, row in figures.results["arms"].items():
        if (row.get("endpoint") or {}).get("unanswered"):
            yield [f"{arm}: questions without an answer", Cell(number(row["endpoint"]["unanswered"]), tone="warn"), "0"]
