"""Records of a review by clinicians: the exported sample (protected/review.json) and what came of
it (review.json). No text."""

from __future__ import annotations

from collections.abc import Mapping

from ehrmind.runs.records.base import Interval95, Record


class ReviewedAnswer(Record):
    """An answer in the exported sheet, with the verifier's verdict (`correct`) and the process
    audit's (`sound`)."""

    case: str
    arm: str
    correct: bool
    sound: bool


class ReviewSample(Record):
    """protected/review.json: the answers that were exported, drawn by `seed`."""

    seed: int
    answers: tuple[ReviewedAnswer, ...]


class Agreement(Record):
    """How often two judgements agree. `kappa` is None where one of both always says the same;
    `share` and `ci95` are None where nothing was judged. `table` counts "yes/no" and the like, the
    first judgement first."""

    n: int
    agree: int
    share: float | None
    ci95: Interval95 | None
    kappa: float | None
    table: Mapping[str, int]


class YesShare(Record):
    """The share of yes among the reviewers' answers to one question."""

    n: int
    yes: int
    share: float
    ci95: Interval95


class ArmReview(Record):
    """Reviewers' answers about one arm; None where they left the column empty."""

    answer_right: YesShare | None
    reasoning_sound: YesShare | None


class Review(Record):
    """review.json. `answer` compares reviewers with the verifier, `reasoning` with the process
    audit; the two others compare reviewers who judged the same answer, and are None where no two
    did."""

    reviewers: int
    sampled: int
    answers: int
    reviewed: int
    left_empty: int
    answer: Agreement
    reasoning: Agreement
    answer_between_reviewers: Agreement | None
    reasoning_between_reviewers: Agreement | None
    by_arm: Mapping[str, ArmReview]
