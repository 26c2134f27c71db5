"""Filled-in review sheets -> RUN/review.json: how far clinicians agree with the verifier, with the audit, and with each other. No text.

A sheet comes back as whatever a spreadsheet made of it: another encoding, semicolons or tabs, columns in another order, rows left out.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ehrmind.labels import label_key
from ehrmind.report.review.sheet import harmless
from ehrmind.runs import Run
from ehrmind.statistics import mean_interval
from ehrmind.system import refuse_no_file, why
from ehrmind.types import InputError

YES = frozenset(
    {"yes", "y", "true", "1", "ja", "oui", "si", "sí", "x", "wahr", "vrai", "verdadero"}
)  # also as spreadsheets say TRUE
NO = frozenset({"no", "n", "false", "0", "nein", "non", "falsch", "faux", "falso"})
SOUND, RIGHT = "reasoning_sound", "answer_right"
LARGEST = 200 << 20
Key = tuple[str, str]  # case and arm


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one reviewer on one answer; None where a cell was left empty."""

    reviewer: str
    key: Key
    sound: bool | None
    right: bool | None


def read_reviews(folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Read sheets, write RUN/review.json and return it. Raises InputError naming file, row and column for what cannot be read."""
    run = Run(folder)
    sample = _sample(run)
    verdicts: dict[tuple[str, Key], Verdict] = {}
    empty = 0
    for number, file in enumerate(files, start=1):
        for place, verdict in _verdicts(file, f"reviewer {number}", sample):
            if verdict.sound is None and verdict.right is None:
                empty += 1
                continue
            before = verdicts.get((verdict.reviewer, verdict.key))
            if before is not None and before != verdict:
                raise InputError(
                    f"{file}, row {place}: this answer was judged otherwise in a row before, by the same reviewer; keep one of the rows."
                )
            verdicts[verdict.reviewer, verdict.key] = verdict
    if not verdicts:
        raise InputError(
            f"No row of {', '.join(str(file) for file in files)} has a yes or no; fill in {SOUND} and {RIGHT}."
        )
    found = _figures(list(verdicts.values()), sample, empty)
    run.write_json("review.json", found)
    return found


def _sample(run: Run) -> dict[Key, Mapping[str, Any]]:
    kept = run.read_json("protected/review.json")
    if kept is None:
        raise InputError(f"{run.path} has no exported review; write one by `ehrmind review export {run.path}`.")
    return {(row["case"], row["arm"]): row for row in kept["answers"]}


def _verdicts(file: Path, nobody: str, sample: Mapping[Key, Any]) -> list[tuple[int, Verdict]]:
    columns, rows = _table(file)
    known = {_as_written(key): key for key in sample} | {key: key for key in sample}
    found = []
    for place, row in rows:
        cells = {name: row[at].strip() if at < len(row) else "" for name, at in columns.items()}
        key = known.get((cells["case"].lstrip("'"), cells["arm"].lstrip("'")), ("", ""))
        if key not in sample:
            raise InputError(
                f"{file}, row {place}: this run's exported review has no answer of this case and arm; give the sheet of this run, with its "
                "columns case and arm as they were exported."
            )
        sound, right = (_yes_or_no(cells[name], file, place, name) for name in (SOUND, RIGHT))
        found.append((place, Verdict(cells["reviewer"].casefold() or nobody, key, sound, right)))
    return found


def _as_written(key: Key) -> Key:
    """Case and arm as the sheet has them, without an apostrophe in front, which some spreadsheets take away."""
    case, arm = (harmless(part).strip().lstrip("'") for part in key)
    return case, arm


def _yes_or_no(cell: str, file: Path, place: int, name: str) -> bool | None:
    word = label_key(cell.strip(" '"))
    if word in YES | NO:
        return word in YES
    if word in ("", "-", "?", "n/a", "na"):
        return None
    raise InputError(f"{file}, row {place}: {name} is neither yes nor no; write one of them or leave it empty.")


def _table(file: Path) -> tuple[dict[str, int], list[tuple[int, list[str]]]]:
    """(places of the columns, the rows that are not empty with their numbers)"""
    text = _text(file)
    header = text.partition("\n")[0]
    mark = max((";", "\t", ","), key=header.count)
    limit = csv.field_size_limit(LARGEST)
    try:
        rows = list(enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=mark), start=1))
    except csv.Error:
        raise InputError(f"{file} is not a CSV file that can be read; save the sheet as CSV (UTF-8).") from None
    finally:
        csv.field_size_limit(limit)
    names = [name.strip().casefold().partition(" (")[0].replace(" ", "_") for name in (rows[0][1] if rows else [])]
    wanted = ("case", "arm", "reviewer", SOUND, RIGHT)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(f"{file} has no column {', '.join(missing)}; keep the first row of the exported sheet.")
    return {name: names.index(name) for name in wanted}, [
        (place, row) for place, row in rows[1:] if any(cell.strip() for cell in row)
    ]


def _text(file: Path) -> str:
    refuse_no_file(file)
    try:
        content = file.read_bytes() if file.stat().st_size <= LARGEST else None
    except OSError as error:
        raise InputError(f"{file} could not be read: {why(error)}.") from None
    if content is None:
        raise InputError(f"{file} is larger than a review can be; is it the right file?")
    if content[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        raise InputError(f"{file} is a spreadsheet's own file; save it as CSV (UTF-8) and read that.")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _figures(verdicts: Sequence[Verdict], sample: Mapping[Key, Mapping[str, Any]], empty: int) -> dict[str, Any]:
    by_arm: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in sorted(verdicts, key=lambda verdict: verdict.key):
        by_arm[verdict.key[1]].append(verdict)
    return {
        "reviewers": len({verdict.reviewer for verdict in verdicts}),
        "sampled": len(sample),
        "answers": len({verdict.key for verdict in verdicts}),
        "reviewed": len(verdicts),
        "left_empty": empty,
        "answer": agreement(
            [(v.right, bool(sample[v.key]["correct"]), v.key[0]) for v in verdicts if v.right is not None]
        ),
        "reasoning": agreement(
            [(v.sound, bool(sample[v.key]["sound"]), v.key[0]) for v in verdicts if v.sound is not None]
        ),
        "answer_between_reviewers": _between(verdicts, "right"),
        "reasoning_between_reviewers": _between(verdicts, "sound"),
        "by_arm": {
            arm: {RIGHT: _yes([v.right for v in of], of), SOUND: _yes([v.sound for v in of], of)}
            for arm, of in sorted(by_arm.items())
        },
    }


def agreement(pairs: Sequence[tuple[bool, bool, str]]) -> dict[str, Any]:
    """Of two judgements of the same things: how often they agree, with an interval over cases, Cohen's kappa (None where one of both says
    always the same), and the table {"yes/yes": …}, the first judgement first."""
    from sklearn.metrics import cohen_kappa_score

    if not pairs:
        return {"n": 0, "agree": 0, "share": None, "ci95": None, "kappa": None, "table": {}}
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    same = [float(one == other) for one, other in zip(first, second, strict=True)]
    interval = mean_interval(same, [pair[2] for pair in pairs])
    kappa = float(cohen_kappa_score(first, second, labels=[False, True])) if len({*first, *second}) > 1 else math.nan
    words = ("no", "yes")
    table = {
        f"{words[a]}/{words[b]}": sum(one is a and other is b for one, other, _ in pairs)
        for a in (True, False)
        for b in (True, False)
    }
    return {
        "n": len(pairs),
        "agree": int(sum(same)),
        "share": sum(same) / len(same),
        "ci95": [interval.low, interval.high],
        "kappa": kappa if math.isfinite(kappa) else None,
        "table": table,
    }


def _between(verdicts: Sequence[Verdict], what: str) -> dict[str, Any] | None:
    """All pairs of reviewers who judged the same answer; None where there is no such pair."""
    by_key: dict[Key, list[Verdict]] = defaultdict(list)
    for verdict in sorted(verdicts, key=lambda verdict: verdict.reviewer):
        if getattr(verdict, what) is not None:
            by_key[verdict.key].append(verdict)
    pairs = [(getattr(a, what), getattr(b, what), key[0]) for key, of in by_key.items() for a, b in combinations(of, 2)]
    return agreement(pairs) if pairs else None


def _yes(answers: Sequence[bool | None], verdicts: Sequence[Verdict]) -> dict[str, Any] | None:
    said = [
        (float(answer), verdict.key[0]) for answer, verdict in zip(answers, verdicts, strict=True) if answer is not None
    ]
    if not said:
        return None
    values = [value for value, _ in said]
    interval = mean_interval(values, [case for _, case in said])
    return {
        "n": len(said),
        "yes": int(sum(values)),
        "share": sum(values) / len(values),
        "ci95": [interval.low, interval.high],
    }
