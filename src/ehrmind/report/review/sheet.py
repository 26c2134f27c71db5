"""Writes a sample of answers as a sheet that a clinician fills in with any spreadsheet. It holds
record text: protected.

A spreadsheet may run a cell that begins with = + - @ as a formula. In another locale it also splits
the file at semicolons, tabs or bars, even inside quotes. So such a sign gets an apostrophe in front
wherever it could begin a cell. The answers, verdicts and audits are kept in a file of their own, so
a reviewer's changes to these columns do not count.
"""

from __future__ import annotations

import csv
import io
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ehrmind import tasks
from ehrmind.files import write_private
from ehrmind.process_audit import ProcessAudit, audit
from ehrmind.process_audit.facts import known, with_numbers_of
from ehrmind.report.reading import Figures, read_run
from ehrmind.report.rollouts import split_blocks
from ehrmind.runs import Run
from ehrmind.runs.lock import writes_into
from ehrmind.runs.records import ReviewedAnswer, ReviewSample, RolloutRow, StageKey, rows_of
from ehrmind.types import Case, InputError

GIVEN = ("case", "stratum", "arm", "record", "question", "thinking", "answer", "verifier", "audit")
ASKED = ("reviewer", "reasoning_sound (yes/no)", "answer_right (yes/no)", "comment")
LONGEST = 32_000  # characters of a cell; spreadsheets hold 32,767
# Signs that begin a formula, their full-width and small forms, and the minus sign.
RISKY = frozenset("=+-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212")
SEPARATORS = frozenset(",;|\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer with its verdict and its process audit."""

    row: RolloutRow
    case: Case
    audited: ProcessAudit

    @property
    def cell(self) -> tuple[str, str]:
        """The group of the sample that the answer belongs to: verdict by audit result."""
        verdict = "right" if self.row.correct else "wrong" if self.row.well_formed else "malformed"
        return verdict, "sound" if self.audited.sound else "unsound"


@writes_into("folder", make=False)
def export_review(folder: Path, arms: Sequence[str] = (), n: int = 50, seed: int = 0) -> tuple[Path, int]:
    """Writes RUN/protected/review.csv (mode 0600); returns its path and the number of answers in
    it.

    The sample has `n` answers of the first decoding, drawn by seed, one from every arm, verdict and
    audit result in turn. Raises InputError for an arm that was not scored and for a purged run.
    """
    run = Run(folder)
    figures = read_run(run)
    chosen = list(arms) or figures.arms
    for arm in chosen:
        if arm not in figures.arms:
            raise InputError(f"{folder} has no arm '{arm}'; it has {', '.join(figures.arms)}.")
    cases = _cases(run, figures)
    judged = [one for arm in chosen for one in _judged(run, figures, arm, cases)]
    sample = _spread(judged, n, seed)
    lines = io.StringIO()
    sheet = csv.writer(lines, quoting=csv.QUOTE_ALL)
    sheet.writerow((*GIVEN, *ASKED))
    for one in sample:
        sheet.writerow([harmless(cell) for cell in (*_cells(one), *("" for _ in ASKED))])
    target = run.protected / "review.csv"
    byte_order_mark = b"\xef\xbb\xbf"  # spreadsheets need it to recognise UTF-8
    write_private(target, byte_order_mark + lines.getvalue().encode("utf-8", "replace"))
    answers = tuple(
        ReviewedAnswer(case=one.case.id, arm=one.row.arm, correct=one.row.correct, sound=one.audited.sound)
        for one in sample
    )
    run.write_record("protected/review.json", ReviewSample(seed=seed, answers=answers))
    return target, len(sample)


def _cases(run: Run, figures: Figures) -> dict[str, Case]:
    from ehrmind.prompts.records import with_histories

    if not run.has_cases("held_out"):
        raise InputError(f"{run.path} holds no cases (was it purged?), so there is nothing to review.")
    cases, _ = with_histories(run.load_split("held_out"), figures.recipe.prompts.history)
    return {case.id: case for case in cases}


def _judged(run: Run, figures: Figures, arm: str, cases: dict[str, Case]) -> list[Judged]:
    stage = str(StageKey.scoring(arm, figures.results.decoding))
    if not run.rollout_steps(stage):
        raise InputError(f"{run.path} holds no answers of {arm} (was it purged?), so there is nothing to review.")
    found = []
    for row in rows_of(run.read_rollouts(stage)):
        case = cases[row.case]
        about = with_numbers_of(known(case), row.earlier) if row.earlier else None
        found.append(Judged(row, case, audit(case, row.text, about=about)))
    return found


def _spread(judged: Sequence[Judged], n: int, seed: int) -> list[Judged]:
    """At most `n` answers, from each arm and cell in turn, in random order."""
    draw = random.Random(f"review:{seed}")
    by_cell: dict[tuple[str, ...], list[Judged]] = defaultdict(list)
    for one in judged:
        by_cell[(*one.cell, one.row.arm)].append(one)
    for cell in by_cell.values():
        draw.shuffle(cell)
    queues = [by_cell[cell] for cell in sorted(by_cell)]
    taken: list[Judged] = []
    while len(taken) < n and any(queues):
        for queue in queues:
            if queue and len(taken) < n:
                taken.append(queue.pop())
    draw.shuffle(taken)
    return taken


def _cells(one: Judged) -> list[str]:
    task, text = tasks.of(one.case), one.row.text
    thinking, answer = split_blocks(text)
    verdict = "right" if one.row.correct else one.row.reason or "wrong"
    given = (thinking, answer) if thinking is not None and answer is not None else (text, "")
    return [
        one.case.id,
        one.case.stratum,
        one.row.arm,
        task.record(one.case),
        task.question(one.case),
        *given,
        verdict,
        said(one.audited, text),
    ]


def said(audited: ProcessAudit, text: str) -> str:
    """The findings as lines, each with the words that it is about."""
    lines = []
    for finding in audited.findings:
        about = (
            ""
            if finding.start is None or finding.end is None
            else f': "{" ".join(text[finding.start : finding.end].split())[:160]}"'
        )
        lines.append(f"{finding.part}: {finding.what}{about}{f' ({finding.detail})' if finding.detail else ''}")
    return "\n".join(lines) or "nothing found"


def harmless(cell: str) -> str:
    """The cell as text in any spreadsheet: no formulas, no control characters, bounded length."""
    kept_letters = (
        letter
        for letter in re.sub(r"\r\n?", "\n", cell)
        if letter in "\n\t" or letter.isprintable() or letter.isspace()
    )
    plain = "".join(kept_letters)
    kept: list[str] = ["'"] if plain[:1] in SEPARATORS else []
    begins = True  # whether some spreadsheet may begin a cell here
    for letter in plain:
        if begins and letter in RISKY:
            kept.append("'")
        kept.append(letter)
        begins = letter in SEPARATORS or (begins and (letter.isspace() or letter == '"'))
    made = "".join(kept)
    return made if len(made) <= LONGEST else f"{made[:LONGEST]} … (cut)"
