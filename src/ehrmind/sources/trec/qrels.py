"""TREC relevance judgments: four columns (`topic 0 document grade`), or TSV with the header `query-id corpus-id score`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ehrmind.sources.cases import FileRead
from ehrmind.sources.files import read_lines
from ehrmind.types import InputError

HEADER = ["query-id", "corpus-id", "score"]
GRADES = {"0": 0, "1": 1, "2": 2}


@dataclass(frozen=True, slots=True)
class Judgment:
    """A physician-trained assessor's grade of one pair: 0 not relevant, 1 excluded, 2 eligible."""

    topic: str
    trial: str
    label: int
    row: int


def read_qrels(path: Path) -> tuple[list[Judgment], FileRead, int]:
    """(judgments in file order, the file, pairs that stood there twice with one grade). Raises InputError naming file and row."""
    lines, sha256 = read_lines(path)
    judgments: dict[tuple[str, str], Judgment] = {}
    repeated = rows = 0
    for number, line in enumerate(lines, start=1):
        values = line.split()
        if not values or (rows == 0 and values == HEADER):
            continue
        rows += 1
        if len(values) not in (3, 4):
            raise InputError(
                f"{path}, row {number}: {len(values)} columns; judgments have four (topic 0 trial grade) or three with a header."
            )
        topic, trial, grade = values[0], values[-2], values[-1]
        if grade not in GRADES:
            raise InputError(f"{path}, row {number}: the grade is not 0 (not relevant), 1 (excluded) or 2 (eligible).")
        judgment = Judgment(topic, trial, GRADES[grade], number)
        first = judgments.setdefault((topic, trial), judgment)
        if first.label != judgment.label:
            raise InputError(f"{path}, rows {first.row} and {number}: two grades for topic {topic} and trial {trial}.")
        repeated += first is not judgment
    if not judgments:
        raise InputError(f"{path} holds no judgment.")
    return list(judgments.values()), FileRead(path.name, sha256, rows), repeated
