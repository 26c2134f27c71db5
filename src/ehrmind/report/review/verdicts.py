"""Reads filled-in review sheets into RUN/review.json: agreement of clinicians with the verifier,
the audit and each other.

A spreadsheet may change a sheet: another encoding, semicolons or tabs, columns in another order,
rows left out. All of these are read. The file holds no record text.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ehrmind.labels import label_key
from ehrmind.report.review.sheet import harmless
from ehrmind.runs import Run
from ehrmind.runs.records import Agreement, ArmReview, Review, ReviewedAnswer, ReviewSample, YesShare
from ehrmind.statistics import mean_interval
from ehrmind.system import refuse_no_file, why
from ehrmind.types import InputError

# "wahr", "vrai" and the like are how spreadsheets in other languages write TRUE and FALSE.
YES = frozenset({"yes", "y", "true", "1", "ja", "oui", "si", "sí", "x", "wahr", "vrai", "verdadero"})
NO = frozenset({"no", "n", "false", "0", "nein", "non", "falsch", "faux", "falso"})
SOUND, RIGHT = "reasoning_sound", "answer_right"
LARGEST = 200 << 20
Key = tuple[str, str]  # case and arm


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of one reviewer on one answer; None where a cell was left empty."""

    reviewer: str
    key: Key
    sound: bool | None
    right: bool | None


def read_reviews(folder: Path, files: Sequence[Path]) -> Review:
    """Reads sheets, writes RUN/review.json and returns it.

    Raises InputError with the file, row and column at fault.
    """
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
                    f"{file}, row {place}: the same reviewer judged this answer differently in an earlier row; keep one"
                    " of the rows."
                )
            verdicts[verdict.reviewer, verdict.key] = verdict
    if not verdicts:
        raise InputError(
            f"No row of {', '.join(str(file) for file in files)} has a yes or no; fill in {SOUND} and {RIGHT}."
        )
    found = _figures(list(verdicts.values()), sample, empty)
    run.write_record("review.json", found)
    return found


def _sample(run: Run) -> dict[Key, ReviewedAnswer]:
    kept = run.read_record("protected/review.json", ReviewSample)
    if kept is None:
        raise InputError(f"{run.path} has no exported review; write one by `ehrmind review export {run.path}`.")
    return {(answer.case, answer.arm): answer for answer in kept.answers}


def _verdicts(file: Path, nobody: str, sample: Mapping[Key, ReviewedAnswer]) -> list[tuple[int, Verdict]]:
    columns, rows = _table(file)
    known = {_as_written(key): key for key in sample} | {key: key for key in sample}
    found = []
    for place, row in rows:
        cells = {name: row[at].strip() if at < len(row) else "" for name, at in columns.items()}
        key = known.get((cells["case"].lstrip("'"), cells["arm"].lstrip("'")), ("", ""))
        if key not in sample:
            raise InputError(
                f"{file}, row {place}: this run's exported review has no answer of this case and arm; give the sheet of"
                " this run, with its columns case and arm as they were exported."
            )
        sound, right = (_yes_or_no(cells[name], file, place, name) for name in (SOUND, RIGHT))
        found.append((place, Verdict(cells["reviewer"].casefold() or nobody, key, sound, right)))
    return found


def _as_written(key: Key) -> Key:
    """Case and arm as in the sheet, without the apostrophe that some spreadsheets remove."""
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
    """(positions of the columns, numbered rows that are not empty)"""
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


def _figures(verdicts: Sequence[Verdict], sample: Mapping[Key, ReviewedAnswer], empty: int) -> Review:
    by_arm: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in sorted(verdicts, key=lambda verdict: verdict.key):
        by_arm[verdict.key[1]].append(verdict)
    right = [(v.right, sample[v.key].correct, v.key[0]) for v in verdicts if v.right is not None]
    sound = [(v.sound, sample[v.key].sound, v.key[0]) for v in verdicts if v.sound is not None]
    return Review(
        reviewers=len({verdict.reviewer for verdict in verdicts}),
        sampled=len(sample),
        answers=len({verdict.key for verdict in verdicts}),
        reviewed=len(verdicts),
        left_empty=empty,
        answer=agreement(right),
        reasoning=agreement(sound),
        answer_between_reviewers=_between(verdicts, lambda verdict: verdict.right),
        reasoning_between_reviewers=_between(verdicts, lambda verdict: verdict.sound),
        by_arm={
            arm: ArmReview(
                answer_right=_yes([(v.right, v.key[0]) for v in of_arm]),
                reasoning_sound=_yes([(v.sound, v.key[0]) for v in of_arm]),
            )
            for arm, of_arm in sorted(by_arm.items())
        },
    )


def agreement(pairs: Sequence[tuple[bool, bool, str]]) -> Agreement:
    """How often two judgements of the same answers agree, with an interval over cases and kappa.

    A pair is (first judgement, second judgement, case). Kappa is None where a judgement never
    varies. `table` counts {"yes/no": …}, the first judgement first.
    """
    from sklearn.metrics import cohen_kappa_score

    if not pairs:
        return Agreement(n=0, agree=0, share=None, ci95=None, kappa=None, table={})
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
    return Agreement(
        n=len(pairs),
        agree=int(sum(same)),
        share=sum(same) / len(same),
        ci95=(interval.low, interval.high),
        kappa=kappa if math.isfinite(kappa) else None,
        table=table,
    )


def _between(verdicts: Sequence[Verdict], judgement: Callable[[Verdict], bool | None]) -> Agreement | None:
    """Agreement over all pairs of reviewers of the same answer; None where there is no pair."""
    by_key: dict[Key, list[bool]] = defaultdict(list)
    for verdict in sorted(verdicts, key=lambda verdict: verdict.reviewer):
        judged = judgement(verdict)
        if judged is not None:
            by_key[verdict.key].append(judged)
    pairs = [(a, b, key[0]) for key, judged in by_key.items() for a, b in combinations(judged, 2)]
    return agreement(pairs) if pairs else None


def _yes(answers: Sequence[tuple[bool | None, str]]) -> YesShare | None:
    """The share of yes, with an interval over cases; None where every cell was left empty."""
    given = [(float(answer), case) for answer, case in answers if answer is not None]
    if not given:
        return None
    values = [value for value, _ in given]
    interval = mean_interval(values, [case for _, case in given])
    share = sum(values) / len(values)
    return YesShare(n=len(given), yes=int(sum(values)), share=share, ci95=(interval.low, interval.high))
