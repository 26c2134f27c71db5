"""Figures of a run -> the tables that say how sure they are and for whom: repeated samples, subgroups, seen tasks, contamination,
what was forgotten, several seeds. Each is None where the run has nothing for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ehrmind.report.formatting import Cell, Table, accuracy, arm_name, interval, number, p_value, percent, points
from ehrmind.report.reading import Figures

Rows = list[list[str | Cell]]
VARIANTS = {"pass": "any right (pass@k)", "majority": "majority right"}


def evaluation(figures: Figures) -> dict[str, Any]:
    """All of them by name."""
    return {
        "samples": samples(figures),
        "agreement": agreement(figures),
        "bins": bins(figures),
        "coverage": coverage(figures),
        "seen": seen(figures),
        "subgroups": subgroups(figures),
        "contamination": contamination(figures),
        "forgetting": forgetting(figures),
        "seeds": seeds(figures),
    }


def repeated(figures: Figures) -> dict[str, Mapping[str, Any]]:
    """The arms of which every held-out question was sampled several times."""
    return {arm: row["repeated"] for arm, row in figures.results["arms"].items() if "repeated" in row}


def samples(figures: Figures) -> Table | None:
    found = repeated(figures)
    if not found:
        return None
    ks = [point["k"] for point in next(iter(found.values()))["pass"]]
    rows: Rows = [
        [
            f"{arm_name(arm)}: {said}",
            *(Cell(percent(point["value"]), interval(point["ci95"])) for point in row[variant_name]),
        ]
        for arm, row in found.items()
        for variant_name, said in VARIANTS.items()
    ]
    n = next(iter(found.values()))["samples"]
    caption = (
        f"{n} samples of every held-out question at the recipe's temperature: how often any of k is right, and how often the commonest "
        "answer of k is, over all choices of k. Malformed samples cast no vote, a tie is an even draw; intervals over patients."
    )
    return Table(caption, ["Arm", *(f"k = {k}" for k in ks)], rows)


def agreement(figures: Figures) -> Table | None:
    found = repeated(figures)
    if not found:
        return None
    rows: Rows = []
    for arm, row in found.items():
        points_ = row["coverage"]["points"]
        measured = [
            number(row["calibration"]["brier"]),
            number(row["calibration"]["ece"]),
            number(row["coverage"]["aurc"]),
        ]
        malformed = percent(row["unparsed"] / max(1, row["questions"] * row["samples"]))
        rows.append([arm_name(arm), *measured, *(_at(points_, share) for share in (1.0, 0.8, 0.5)), malformed])
    caption = (
        "Whether agreement among samples can be trusted: confidence is the share of a question's samples that give its commonest answer. "
        "Answered: the most agreed upon questions only, to the least threshold that keeps this share of them."
    )
    titles = [
        "Brier score",
        "Calibration error",
        "Area under risk and coverage",
        "Right, all answered",
        "Right, 80 % answered",
    ]
    return Table(caption, ["Arm", *titles, "Right, half answered", "Malformed samples"], rows)


def _at(curve: list[Mapping[str, Any]], share: float) -> Cell:
    """Accuracy at the first threshold that answers at least this share."""
    point = next(point for point in curve if point["coverage"] >= share - 1e-9)
    return Cell(percent(point["accuracy"]), f"of {percent(point['coverage'])}")


def bins(figures: Figures) -> Table | None:
    rows: Rows = [
        [arm_name(arm), percent(bin_["confidence"]), percent(bin_["right"]), number(bin_["n"])]
        for arm, row in repeated(figures).items()
        for bin_ in row["calibration"]["bins"]
    ]
    return (
        Table("Calibration by tenths of agreement.", ["Arm", "Agreement", "Right", "Questions"], rows) if rows else None
    )


def coverage(figures: Figures) -> Table | None:
    rows: Rows = [
        [arm_name(arm), percent(point["threshold"]), percent(point["coverage"]), percent(point["accuracy"])]
        for arm, row in repeated(figures).items()
        for point in row["coverage"]["points"]
    ]
    caption = "Accuracy against coverage: the questions answered where at least this share of samples must agree."
    return Table(caption, ["Arm", "Agreement of at least", "Answered", "Right among them"], rows) if rows else None


def seen(figures: Figures) -> Table | None:
    """None where train has every task."""
    shares = parts(figures, "by_seen")
    if "unseen" not in shares:
        return None
    caption = "Held-out cases of tasks that train has, and of tasks (calculators, collections) that it has not."
    return _by_arm(figures, caption, "Task", shares)


def subgroups(figures: Figures) -> Table | None:
    """None where nobody's age or sex is known."""
    shares = people(figures)
    if not shares:
        return None
    caption = (
        "Held-out cases by the patient's age and sex, as far as the data say them. Differences between groups may be those of their "
        "questions."
    )
    return _by_arm(figures, caption, "Patients", shares)


def people(figures: Figures) -> dict[str, dict[str, Mapping[str, Any]]]:
    shares: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name in ("age", "sex"):
        groups = parts(figures, "subgroups", name)
        if groups.keys() - {"unknown"}:
            order = sorted(groups, key=lambda group: (group == "unknown", group != "under 18", group))
            shares |= {f"{name}: {group}": groups[group] for group in order}
    return shares


def parts(figures: Figures, *path: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """{part: {arm: its figures}}; nothing where an older run has none."""
    shares: dict[str, dict[str, Mapping[str, Any]]] = {}
    for arm, row in figures.results["arms"].items():
        for name in path:
            row = row.get(name, {})
        for part, figure in row.items():
            shares.setdefault(part, {})[arm] = figure
    return {part: {arm: shares[part].get(arm, {"n": 0}) for arm in figures.arms} for part in shares}


def _by_arm(figures: Figures, caption: str, title: str, shares: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    rows: Rows = [
        [part, number(max(row["n"] for row in of.values())), *(accuracy(of[arm]) for arm in figures.arms)]
        for part, of in shares.items()
    ]
    return Table(caption, [title, "Cases", *map(arm_name, figures.arms)], rows)


def contamination(figures: Figures) -> Table | None:
    found = figures.results.get("contamination")
    if not found:
        return None
    rows: Rows = [
        [
            place.replace("held_out", "held-out"),
            known,
            number(row["cases"]),
            *_shared(of),
            number(sum(untold_records(row).values())),
        ]
        for place, row in found.items()
        for known, of in row["against"].items()
    ]
    words = next(iter(found.values()))["words"]
    caption = (
        f"Records that share {words} words in a row with what was learned from, beyond the check by patient; what many patients' records "
        "share is template text and left out. Of a record that is shorter, or all template, nothing can be told. Nothing was dropped."
    )
    titles = ["Cases", "with", "Number", "share any", "share half or more", "mean share", "Too short to say"]
    return Table(caption, titles, rows)


def _shared(row: Mapping[str, Any]) -> list[str | Cell]:
    return [
        number(row["any"]),
        Cell(number(row["half"]), tone="warn" if row["half"] else ""),
        percent(row["mean_share"]),
    ]


def forgetting(figures: Figures) -> Table | None:
    found = figures.results.get("forgetting")
    if not found:
        return None
    rows: Rows = []
    for arm, row in found["arms"].items():
        said = (
            Cell("kept", tone="good")
            if row["kept"]
            else Cell("lost", tone="warn")
            if row["lost"]
            else Cell("not shown to be kept", tone="warn")
        )
        difference = Cell(points(row["difference"]), f"{interval(row['ci95'])}; {p_value(row['p'])}")
        rows.append([arm_name(arm), percent(found["base"] + row["difference"]), difference, said])
    caption = (
        f"{found['n']:,} general questions, of which base answers {percent(found['base'])}: what training made a model forget. Kept: the "
        f"interval's lower end is above −{100 * found['margin']:g} points{' (the gate of this recipe)' if found['gate'] else ''}."
    )
    return Table(caption, ["Arm", "Right", "Against base", "General skill"], rows)


def seeds(figures: Figures) -> Table | None:
    """Every seed's figure; None where there is one seed."""
    chosen = figures.results.get("seeds")
    if not chosen:
        return None
    rows: Rows = [
        [arm_name(arm), *(percent(share) for share in row["per_seed"]), accuracy(row), f"{100 * row['sd']:.1f}"]
        for arm, row in figures.results["arms"].items()
        if "per_seed" in row
    ]
    caption = (
        "The recipe under several seeds, each a run of its own under seeds/. Intervals take into account that other patients and other "
        "seeds would have given other figures; the spread is the standard deviation between seeds, in points."
    )
    return Table(caption, ["Arm", *(f"seed {seed}" for seed in chosen), "Mean", "Spread"], rows)


def sentences(results: Mapping[str, Any]) -> list[str]:
    """Of contamination and forgetting, whatever they say."""
    return [*_contamination_sentence(results), *_forgetting_sentence(results)]


def _contamination_sentence(results: Mapping[str, Any]) -> list[str]:
    found = results.get("contamination", {}).get("held_out")
    if not found:
        return []
    most = max(found["against"].values(), key=lambda row: (row["half"], row["any"]))
    run, untold = f"{found['words']} words in a row", untold_records(found)
    told = found["cases"] - sum(untold.values())
    why = " and ".join(f"{number(count)} {reason}" for reason, count in untold.items())
    if not told:
        return [f"Nothing can be told of text that held-out records share with what was learned from: {why}."]
    of = (
        f"{number(told)} held-out records that can be compared"
        if untold
        else f"{number(found['cases'])} held-out records"
    )
    but = f" Of the others nothing can be told: {why}." if untold else ""
    if not most["any"]:
        return [f"None of {of} shares {run} with what was learned from.{but}"]
    half = f"{number(most['half']) if most['half'] else 'none'} of them half of their text or more"
    return [f"{number(most['any'])} of {of} share {run} with what was learned from, {half}.{but}"]


def untold_records(found: Mapping[str, Any]) -> dict[str, int]:
    """{why nothing can be told of records that share no run of words: how many}, without those that are none."""
    short = f"are shorter than {found['words']} words"
    counts = {short: found["too_short"], "hold nothing but text of many patients": found.get("template_only", 0)}
    return {reason: count for reason, count in counts.items() if count}


def _forgetting_sentence(results: Mapping[str, Any]) -> list[str]:
    found = results.get("forgetting")
    if not found:
        return []
    failing = [arm_name(arm) for arm, row in found["arms"].items() if not row["kept"]]
    margin = f"{100 * found['margin']:g} points"
    said = f"On {number(found['n'])} general questions, of which base answers {percent(found['base'])} right,"
    if not failing:
        return [f"{said} every trained arm keeps within {margin} of it."]
    return [f"{said} not shown to keep within {margin} of it: {', '.join(failing)}."]
