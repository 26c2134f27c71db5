"""Rows of a prediction, from the completions of each case: the answer, its probability or
agreement, the thinking, and which of its values the record has.

No gold answer is read, so new and known cases are treated alike.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ehrmind import tasks
from ehrmind.process_audit import grounded, known, thinking_of
from ehrmind.process_audit.facts import with_numbers_of
from ehrmind.runs.records.prediction_row import Grounding, PredictionRow, Vote
from ehrmind.stages.evaluation.repeated import vote
from ehrmind.types import Case, Completion
from ehrmind.verify.judge import read

PROMPT_TOO_LONG, UNANSWERED = "prompt too long", "unanswered"


def row_of(
    case: Case,
    completions: Sequence[Completion],
    probabilities: Sequence[float] | None,
    *,
    think: bool,
    abstain_below: float | None,
) -> PredictionRow:
    """Returns the row with the commonest answer; of equals, the first sampled. A sample that cannot
    be read casts no vote.

    `probabilities` are those of the labels at the place of the first answer. With several samples,
    each label's share among the readable samples replaces them.
    """
    readings = [_read(case, said, think) for said in completions]
    ballots = [None if reason is not None else vote(answer) for answer, reason in readings]
    votes = Counter(ballot for ballot in ballots if ballot is not None)
    place = ballots.index(votes.most_common(1)[0][0]) if votes else 0
    (answer, reason), said = readings[place], completions[place]
    several, labels = len(completions) > 1, case.truth.get("labels")
    if several and labels:
        given = Counter(found for found, why in readings if why is None)
        probabilities = [given[number] / given.total() for number in range(len(labels))] if given else None
    probability = probabilities[answer] if probabilities and labels and reason is None else None
    agreement = max(votes.values(), default=0) / len(completions) if several else None
    sure = probability if labels else agreement
    thinking, _ = thinking_of(said.text)
    return replace(
        _empty(case),
        answer=None if reason is not None else shown(case, answer),
        value=float(answer) if reason is None and isinstance(answer, int | float) else None,
        probability=probability,
        probabilities=list(probabilities) if probabilities else None,
        agreement=agreement,
        votes=_votes(case, readings, votes, ballots) if several else None,
        abstained=abstain_below is not None and (sure or 0.0) < abstain_below,
        reason=reason,
        thinking=thinking.strip() or None,
        grounding=_grounding(case, thinking.strip(), said.earlier),
        text=said.text,
        tokens=sum(part.n_written for part in completions),
        finish_reason=said.finish_reason,
    )


def _read(case: Case, said: Completion, think: bool) -> tuple[Any, str | None]:
    if said.finish_reason == "error":
        return None, UNANSWERED
    return read(case, said.text, finish_reason=said.finish_reason, think=think)


def unasked(case: Case, *, abstain_below: float | None) -> PredictionRow:
    """The row of a case whose prompt is too long for the model."""
    return replace(_empty(case), abstained=abstain_below is not None, reason=PROMPT_TOO_LONG)


def _empty(case: Case) -> PredictionRow:
    """The row of a case that was not asked."""
    at = case.provenance.get("as_of") if case.family == "ehr" else None
    return PredictionRow(
        id=case.id,
        family=case.family,
        task=case.task,
        stratum=case.stratum,
        group=case.group,
        subject_id=case.provenance.get("subject") if case.family == "ehr" else None,
        prediction_time=datetime.fromisoformat(at) if at else None,
        trial=case.provenance.get("trial") if case.family == "trials" else None,
        unit=case.truth.get("unit"),
        labels=case.truth.get("labels"),
        abstained=False,
        tokens=0,
        finish_reason="error",
    )


def shown(case: Case, answer: Any) -> str:
    """Writes an answer in words: a label, a number, a day, or weeks and days."""
    if labels := case.truth.get("labels"):
        return str(labels[answer])
    if case.truth.get("kind") == "weeks_days":
        return f"{answer[0]} weeks, {answer[1]} days"
    return answer if isinstance(answer, str) else json.dumps(answer)


def _votes(
    case: Case, readings: Sequence[tuple[Any, str | None]], votes: Counter[str], ballots: Sequence[str | None]
) -> list[Vote]:
    """Each answer in the words of its first sample, the commonest first."""
    return [Vote(shown(case, readings[ballots.index(ballot)][0]), count) for ballot, count in votes.most_common()]


def _grounding(case: Case, thinking: str, earlier: str) -> list[Grounding]:
    if not thinking:
        return []
    about = with_numbers_of(known(case), earlier) if earlier else known(case)
    return [
        Grounding(said.start, said.end, thinking[said.start : said.end], said.stands)
        for said in grounded(case, thinking, about)
    ]


def ranked(rows: Sequence[PredictionRow]) -> list[PredictionRow]:
    """Adds to patient-trial pairs the expected grade (`score`) and the `rank` among the patient's
    trials, best first. Equals keep their order. Other families have neither."""
    pairs = [place for place, row in enumerate(rows) if row.family == "trials"]
    if not pairs:
        return list(rows)
    answers = [None if (value := rows[place].value) is None else int(value) for place in pairs]
    scores = tasks.trials.eligibility_scores(answers, [rows[place].probabilities for place in pairs])
    filled = list(rows)
    seen: Counter[str] = Counter()
    for _, place, score in sorted((-score, place, score) for place, score in zip(pairs, scores, strict=True)):
        seen[rows[place].group] += 1
        filled[place] = replace(rows[place], score=score, rank=seen[rows[place].group])
    return filled
