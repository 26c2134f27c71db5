"""Reads pairs to predict: `topic trial` on each line, or judgments whose grades are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ehrmind.data.files import read_lines
from ehrmind.data.trec.keys import refuse_other_years, trial_key
from ehrmind.data.trec.qrels import columns_of, is_header, refuse_long
from ehrmind.data.trec.topics import Topic, TopicIndex
from ehrmind.types import InputError


def pairs_to_ask(path: Path, topics: Path, patients: Mapping[str, Topic], *, any_year: bool) -> list[tuple[Topic, str]]:
    """Returns (topic, trial's number) in the file's order, each pair once.

    Raises InputError naming file and row.
    """
    named: list[tuple[str, str, int]] = []
    for number, line in enumerate(read_lines(path)[0], start=1):
        refuse_long(line, f"{path}, row {number}")
        values = columns_of(line)
        if not values or (not named and is_header(values)):
            continue
        if len(values) not in (2, 3, 4):
            raise InputError(
                f"{path}, row {number}: {len(values)} columns; a pair has two (topic trial), a judgment three or four."
            )
        trial = trial_key(values[-2] if len(values) > 2 else values[1])
        if not trial:
            raise InputError(f"{path}, row {number}: the trial's number is not of the form NCT01234567.")
        named.append((values[0], trial, number))
    if not any_year:
        refuse_other_years(topics, [topic.year for topic in patients.values()], path, [topic for topic, _, _ in named])
    index = TopicIndex(patients, any_year=any_year)
    found = [(index.find(topic, f"{path}, row {row}"), trial) for topic, trial, row in named]
    return list({(topic.id, trial): (topic, trial) for topic, trial in found}.values())
