"""The thinking of each arm, part by part, and what clinicians said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ehrmind.report.formatting import ABSENT, Cell, Table, arm_name, interval, number, percent
from ehrmind.report.reading import Figures

PART_NAMES = {
    "grounding": "Grounded",
    "entities": "Inputs said",
    "formula": "Formula",
    "arithmetic": "Arithmetic",
    "conclusion": "Conclusion",
    "leak": "No leak",
}
Rows = list[list[str | Cell]]


def process(figures: Figures) -> dict[str, Table | None]:
    return {
        "process": parts(figures),
        "flaws": flaws(figures),
        "review": review(figures),
        "reviewed_arms": reviewed_arms(figures),
    }


def parts(figures: Figures) -> Table | None:
    """Shares of what was looked at that is right; None where no arm was asked to think."""
    audited = _audited(figures)
    if not audited:
        return None
    rows: Rows = []
    for arm, found in audited.items():
        rows.append(
            [
                arm_name(arm),
                *(_share(found.get(part), "passed", "checked") for part in PART_NAMES),
                _flawed(found["right_but_flawed"]),
            ]
        )
    caption = (
        f"The thinking audited, {figures.results['decoding']} decoding: of what each part found to look at, the share that is right, with "
        "its "
        "95 % interval over patients. A dash: nothing to look at. Last, right answers in which a step, value, conclusion or leak is wrong."
    )
    return Table(caption, ["Arm", *PART_NAMES.values(), "Right, but flawed"], rows)


def flaws(figures: Figures) -> Table | None:
    """What is wrong most often, by arm."""
    rows: Rows = [
        [arm_name(arm), PART_NAMES.get(row["part"], row["part"]), row["what"], number(row["times"])]
        for arm, found in _audited(figures).items()
        for row in found["findings"]
    ]
    return Table("What the audit found most often.", ["Arm", "Part", "What", "Times"], rows) if rows else None


def review(figures: Figures) -> Table | None:
    """How far clinicians agree with the verifier and the audit, and with each other."""
    found = figures.review
    if not found:
        return None
    rows: Rows = [
        [name, *_agreement(found[key])]
        for key, name in (
            ("answer", "The answer is right: clinician and verifier"),
            ("reasoning", "The reasoning is sound: clinician and audit"),
            ("answer_between_reviewers", "The answer: between reviewers"),
            ("reasoning_between_reviewers", "The reasoning: between reviewers"),
        )
        if found.get(key)
    ]
    who = "one reviewer" if found["reviewers"] == 1 else f"{found['reviewers']} reviewers"
    caption = f"Read by {who}, {found['reviewed']:,} verdicts on {found['answers']:,} of {found['sampled']:,} sampled answers."
    return Table(caption, ["Of what", "Verdicts", "Agree", "Cohen's κ"], rows)


def reviewed_arms(figures: Figures) -> Table | None:
    found = figures.review
    if not found or not found["by_arm"]:
        return None
    rows: Rows = [
        [arm_name(arm), _share(row["answer_right"], "yes", "n"), _share(row["reasoning_sound"], "yes", "n")]
        for arm, row in found["by_arm"].items()
    ]
    caption = (
        "What clinicians said, arm by arm. The sample takes every verdict and audit result alike, so these shares are not those of all "
        "answers."
    )
    return Table(caption, ["Arm", "Answer right", "Reasoning sound"], rows)


def _audited(figures: Figures) -> dict[str, Mapping[str, Any]]:
    return {arm: row["process"] for arm, row in figures.results["arms"].items() if row.get("process")}


def _share(found: Mapping[str, Any] | None, part: str, whole: str) -> Cell:
    if not found or not found[whole]:
        return Cell(ABSENT)
    return Cell(percent(found["share"]), f"{interval(found['ci95'])}, {found[part]:,} of {found[whole]:,}")


def _flawed(found: Mapping[str, Any] | None) -> Cell:
    cell = _share(found, "flawed", "n")
    return Cell(cell.text, cell.note, "warn") if found and found["flawed"] else cell


def _agreement(found: Mapping[str, Any]) -> list[str | Cell]:
    if not found["n"]:
        return [number(0), ABSENT, ABSENT]
    return [number(found["n"]), Cell(percent(found["share"]), interval(found["ci95"])), number(found["kappa"])]
