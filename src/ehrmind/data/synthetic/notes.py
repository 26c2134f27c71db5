"""Writes a patient note of facts: telegraphic, as case report, as admission note, or as a table."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ehrmind.data.synthetic.phrases import PLACES, REASONS

Section = Literal["findings", "vitals", "results", "dates"]


@dataclass(frozen=True, slots=True)
class Fact:
    """Statement of a note. `value` is "yes" or "no" for a finding.

    `moments` has (when, value) of repeated measurements, oldest first; the question asks for
    `value`.
    """

    section: Section
    label: str
    value: str
    moments: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Person:
    """Patient in a note. `age` is a text such as `72 year` or `14 month`."""

    age: str
    sex: str
    child: bool

    @property
    def noun(self) -> str:
        return {"female": ("woman", "girl"), "male": ("man", "boy")}[self.sex][self.child]

    @property
    def pronoun(self) -> str:
        return "She" if self.sex == "female" else "He"


def telegraphic(person: Person, facts: Sequence[Fact], asides: Sequence[str], draw: random.Random) -> str:
    parts = [f"{fact.label} {_values(fact, ' on ', ', ')}" for fact in facts] + list(asides)
    draw.shuffle(parts)
    return f"{person.age} old {person.noun}, {draw.choice(PLACES)}. {'. '.join(parts)}."


def case_report(person: Person, facts: Sequence[Fact], asides: Sequence[str], draw: random.Random) -> str:
    age = person.age.replace(" ", "-")
    opening = f"{_article(age)} {age}-old {person.noun} {draw.choice(REASONS)}."
    found = [fact.label for fact in facts if fact.value == "yes"]
    absent = [fact.label for fact in facts if fact.value == "no"]
    paragraphs = [opening]
    history = [f"{_capital(text)}." if text.startswith("the ") else f"{person.pronoun} {text}." for text in asides]
    if found:
        history.append(
            f"{draw.choice(('The record is positive for', 'Findings are', 'Positive findings are'))}"
            f" {_listed(found, 'and')}."
        )
    if absent:
        history.append(
            f"{draw.choice(('It is negative for', 'Absent are', 'There is no sign or record of'))}"
            f" {_listed(absent, 'and')}."
        )
    draw.shuffle(history)
    paragraphs += history
    for section, starts in _STARTS.items():
        said = [
            f"{fact.label} {'was' if section != 'dates' else 'is'} {_values(fact, ' on ', ' and ')}"
            for fact in _of(facts, section)
        ]
        draw.shuffle(said)
        if said:
            paragraphs.append(f"{draw.choice(starts)} {_listed(said, 'and')}.")
    return " ".join(paragraphs)


def admission_note(person: Person, facts: Sequence[Fact], asides: Sequence[str], draw: random.Random) -> str:
    lines = [
        "ADMISSION NOTE",
        f"Patient: {person.age.replace(' ', '-')}-old {person.noun}, {draw.choice(PLACES)}",
        f"Reason: patient {draw.choice(REASONS)}",
    ]
    if asides:
        lines.append(f"Background: {'; '.join(asides)}")
    marks = draw.choice((("present", "absent"), ("yes", "no"), ("+", "-")))
    findings = [f"- {fact.label}: {marks[fact.value == 'no']}" for fact in facts if fact.value in ("yes", "no")]
    draw.shuffle(findings)
    if findings:
        lines += ["History and examination:", *findings]
    for section, heading in (("dates", "Dates"), ("vitals", "Vital signs"), ("results", "Results")):
        said = [f"{fact.label} {_values(fact, ' on ', ', then ')}" for fact in _of(facts, section)]
        draw.shuffle(said)
        if said:
            lines.append(f"{heading}: {'; '.join(said)}")
    return "\n".join(lines)


def result_table(person: Person, facts: Sequence[Fact], asides: Sequence[str], draw: random.Random) -> str:
    """Writes measurements as a table with a column for each time, below a line with all else."""
    measured = [fact for fact in facts if fact.value not in ("yes", "no") and fact.section != "dates"]
    rest = [fact for fact in facts if fact not in measured]
    said = [f"{fact.label}: {fact.value}" for fact in rest]
    draw.shuffle(said)
    whens = sorted({when for fact in measured for when, _ in fact.moments}, key=_moment_order)
    lines = [
        f"{person.noun.capitalize()}, {person.age.replace(' ', '-')}-old, {draw.choice(PLACES)}."
        f" {'. '.join([*asides, *said])}."
    ]
    if measured:
        columns = whens or ["result"]
        lines += ["", f"| test | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
        draw.shuffle(measured)
        for fact in measured:
            cells = dict(fact.moments) or {columns[0]: fact.value}
            lines.append(f"| {fact.label} | {' | '.join(cells.get(when, '') for when in columns)} |")
    return "\n".join(lines)


Manner = Literal["telegraphic", "case_report", "admission_note", "result_table"]
MANNERS: dict[str, Callable[[Person, Sequence[Fact], Sequence[str], random.Random], str]] = {
    "telegraphic": telegraphic,
    "case_report": case_report,
    "admission_note": admission_note,
    "result_table": result_table,
}

_STARTS = {
    "dates": ("According to the chart,", "By the calendar,"),
    "vitals": ("On examination,", "At the bedside,", "When measured,"),
    "results": ("Tests showed that", "In the laboratory,", "Workup:"),
}


def _of(facts: Sequence[Fact], section: str) -> list[Fact]:
    """Lists a section's measurements. Facts with "yes" or "no" are findings, not measurements."""
    return [
        fact
        for fact in facts
        if fact.value not in ("yes", "no")
        and (fact.section == section or (fact.section, section) == ("findings", "vitals"))
    ]


def _values(fact: Fact, on: str, joint: str) -> str:
    return joint.join(f"{value}{on}{when}" for when, value in fact.moments) if fact.moments else fact.value


def _listed(items: Sequence[str], joint: str) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {joint} {items[-1]}"


def _moment_order(when: str) -> tuple[bool, int]:
    """Sort key of a time: admission comes before every day."""
    return when != "admission", int("".join(filter(str.isdigit, when)) or 0)


def _article(age: str) -> str:
    return "An" if age.startswith(("8", "11-", "18-")) else "A"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
