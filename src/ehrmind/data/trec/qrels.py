"""Reads TREC relevance judgments (qrels).

A file has four columns (`topic 0 document grade`), three columns, or a header such as `query-id
corpus-id score`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ehrmind.data.cases import FileRead
from ehrmind.data.files import read_lines
from ehrmind.data.trec.keys import TopicKey, topic_key, trial_key
from ehrmind.types import InputError

MAX_LINE = 10_000
HEADER = ["query-id", "corpus-id", "score"]
_NAMES = {
    "topic": "query-id queryid qid query topic topic-id topicid topic-number patient patient-id",
    "trial": "corpus-id corpusid doc-id docid docno document document-id trial trial-id nct nct-id nctid",
    "grade": "score grade relevance rel label judgment judgement qrel",
    "": "0 iter iteration q0 run",
}
_PLACES = {name: place for place, names in _NAMES.items() for name in names.split()}
_GRADE = re.compile(r"\+?0*([0-9]+)(?:[.,]0*)?")
_SPACED = re.compile(r"\bnct[\s:#]+(?=[0-9]{8}\b)", re.IGNORECASE)
GRADES = {"0": 0, "1": 1, "2": 2}


@dataclass(frozen=True, slots=True)
class Judgment:
    """Grade of one pair by a physician-trained assessor: 0 not relevant, 1 excluded, 2 eligible.

    `topic` is written as in the file.
    """

    topic: str
    trial: str
    label: int
    row: int


def read_qrels(path: Path) -> tuple[list[Judgment], FileRead, int]:
    """Returns (judgments in file order, the file, number of repeated pairs with the same grade).

    Raises InputError naming file and row.
    """
    lines, sha256 = read_lines(path)
    judgments: dict[tuple[TopicKey, str], Judgment] = {}
    repeated = rows = 0
    header: dict[str, int] | None = None
    for number, line in enumerate(lines, start=1):
        refuse_long(line, f"{path}, row {number}")
        values = columns_of(line)
        if not values:
            continue
        if rows == 0 and header is None and is_header(values):
            header = _header(values, path)
            continue
        rows += 1
        topic, trial, grade = _placed(values, header, f"{path}, row {number}")
        if trial_key(trial) == "":
            raise InputError(f"{path}, row {number}: the trial's number is not of the form NCT01234567.")
        found = _GRADE.fullmatch(grade)
        if found is None or found[1] not in GRADES:
            raise InputError(f"{path}, row {number}: the grade is not 0 (not relevant), 1 (excluded) or 2 (eligible).")
        judgment = Judgment(topic, trial_key(trial), GRADES[found[1]], number)
        first = judgments.setdefault((topic_key(topic), judgment.trial), judgment)
        if first.label != judgment.label:
            raise InputError(f"{path}, rows {first.row} and {number}: two grades for one topic and trial; keep one.")
        repeated += first is not judgment
    if not judgments:
        raise InputError(f"{path} holds no judgment.")
    return list(judgments.values()), FileRead(path.name, sha256, rows), repeated


def refuse_long(line: str, where: str) -> None:
    """Raises InputError for a line that is too long for a judgment and could fill the memory."""
    if len(line) > MAX_LINE:
        raise InputError(f"{where}: {len(line):,} characters; a line of judgments has at most {MAX_LINE:,}.")


def columns_of(line: str) -> list[str]:
    """Splits a line into columns at spaces, tabs, commas and semicolons."""
    return [value.strip("\"'") for value in re.split(r"[\s,;]+", _SPACED.sub("NCT", line.strip(" \t,;"))) if value]


def is_header(values: Sequence[str]) -> bool:
    """Tells whether a line is a header: it has no trial's number, and two known column names."""
    return not any(map(trial_key, values)) and sum(value.lower().replace("_", "-") in _PLACES for value in values) >= 2


def _header(values: Sequence[str], path: Path) -> dict[str, int]:
    places: dict[str, int] = {}
    for at, value in enumerate(values):
        place = _PLACES.get(value.lower().replace("_", "-"))
        if place is None or (place and place in places):
            raise InputError(
                f"{path}, header: column {at + 1} is not known or there twice; judgments have {', '.join(HEADER)}."
            )
        places[place] = at
    if missing := next((place for place in ("topic", "trial", "grade") if place not in places), None):
        raise InputError(f"{path}, header: no column of the {missing}; judgments have {', '.join(HEADER)}.")
    return {**places, "columns": len(values)}


def _placed(values: Sequence[str], header: dict[str, int] | None, where: str) -> tuple[str, str, str]:
    """Returns topic, trial and grade of a row."""
    if header is not None:
        if len(values) != header["columns"]:
            raise InputError(f"{where}: {len(values)} columns for {header['columns']} of the header.")
        return values[header["topic"]], values[header["trial"]], values[header["grade"]]
    if len(values) not in (3, 4):
        raise InputError(
            f"{where}: {len(values)} columns; judgments have four (topic 0 trial grade) or three with a header."
        )
    return values[0], values[-2], values[-1]
