"""Worked answers from a teacher: a stronger model behind an endpoint, which gets the gold labels
(arXiv 2505.24105 has 3,000 such answers for trial matching).

An answer is kept if the judge finds it right, it does not reveal that the label was known, the
process audit finds no flaw in its reasoning, its confidence is high enough, and it copies no other.
Only training cases are sent. Answers are asked evenly over strata and labels, more where the pilot
saw more wrong ones. A case with a refused answer is tried again. A label of a stratum is asked at
most `tries` times as often as it is wanted.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ehrmind import tasks
from ehrmind.config import Recipe, Teacher
from ehrmind.engines.answers import Answer, Question
from ehrmind.engines.endpoint import EndpointClient
from ehrmind.process_audit import audit
from ehrmind.process_audit.conclusion import LEAK
from ehrmind.prompts.teaching import lesson, read_reply, teaching_messages, thinking_of
from ehrmind.runs.records import Diagnosis, TeacherFacts
from ehrmind.stages.context import StageContext
from ehrmind.stages.progress import progress
from ehrmind.stages.rollout import variant_of
from ehrmind.types import Case
from ehrmind.verify import judge

Bucket = tuple[str, str]  # stratum and label; "" if answers are no labels
ByLabel = dict[str, dict[str, int]]  # counts by stratum and label
LEAST_NEED = 0.05  # need of a stratum that the pilot found solved
NO_ANSWER, LEAKS, UNSURE, UNSAID = (
    "no answer",
    "the label shows in the reasoning",
    "low confidence",
    "no confidence given",
)
FLAWED, COPY, UNBALANCED = "flawed reasoning", "the same as another", "more of its label than balance allows"


def taught(
    context: StageContext, cases: Sequence[Case], diagnosis: Diagnosis | None
) -> tuple[list[tuple[Case, str]], TeacherFacts]:
    """Returns cases of `train` with their worked answers, and counts. Resumes after its last
    answer."""
    run, recipe = context.run, context.recipe
    settings = recipe.teacher
    assert settings is not None, "the recipe has a teacher where its traces are asked for"
    assert all(case.split == "train" for case in cases), "only training cases are sent"
    client = EndpointClient(settings, "teacher", run.answers("teacher", "warmup"))
    lists = _in_turn(cases, recipe.seed)
    sizes = {bucket: len(queue) for bucket, queue in lists.items()}
    wanted = quotas(sizes, settings.pairs, needs(diagnosis), settings.balance, recipe.warmup.traces_per_stratum)
    asked: Counter[Bucket] = Counter()
    kept: dict[Bucket, list[tuple[Case, str]]] = defaultdict(list)
    refused: Counter[str] = Counter()
    thoughts: set[str] = set()
    while batch := _next(lists, wanted, kept, asked, settings.tries):
        for (bucket, case, attempt), answer in zip(batch, _ask(client, recipe, settings, batch), strict=True):
            text, reason = _proven(case, answer, settings, thoughts)
            if reason is None:
                kept[bucket].append((case, text))
                continue
            refused[reason] += 1
            if attempt + 1 < settings.tries and reason != UNSURE:
                lists[bucket].appendleft((case, attempt + 1))
    pairs = _balanced(kept, settings.balance, refused)
    by_label, short = _spread(pairs, wanted)
    return pairs, TeacherFacts(
        asked=asked.total(),
        accepted=len(pairs),
        refused=dict(refused),
        by_label=by_label,
        short=short,
        **client.facts(),
    )


def needs(diagnosis: Diagnosis | None) -> dict[str, float]:
    """The share of wrong answers in the pilot, by stratum."""
    found = {} if diagnosis is None else diagnosis.by_stratum
    return {stratum: max(LEAST_NEED, 1.0 - figures.pass_at_1) for stratum, figures in found.items()}


def quotas(
    sizes: Mapping[Bucket, int], total: int, need: Mapping[str, float], balance: float | None, per_stratum: int | None
) -> dict[Bucket, int]:
    """Divides `total` over strata and labels: strata in proportion to their need, labels evenly. No
    label of a stratum gets more than `balance` times the cases of its rarest label."""
    rarest: dict[str, int] = {}
    for (stratum, _), size in sizes.items():
        rarest[stratum] = min(size, rarest.get(stratum, size))
    room = {
        bucket: min(size, int(balance * rarest[bucket[0]])) if balance and bucket[1] else size
        for bucket, size in sizes.items()
    }
    labels: dict[str, list[Bucket]] = defaultdict(list)
    for bucket in sorted(room):
        labels[bucket[0]].append(bucket)
    wanted: dict[Bucket, int] = dict.fromkeys(room, 0)
    given: Counter[str] = Counter()
    turns = [(1 / need.get(stratum, 1.0), stratum) for stratum in labels]
    heapq.heapify(turns)
    while turns and sum(given.values()) < total:
        _, stratum = heapq.heappop(turns)
        free = [bucket for bucket in labels[stratum] if wanted[bucket] < room[bucket]]
        if free and (per_stratum is None or given[stratum] < per_stratum):
            wanted[min(free, key=lambda bucket: (wanted[bucket], bucket))] += 1
            given[stratum] += 1
            heapq.heappush(turns, ((given[stratum] + 1) / need.get(stratum, 1.0), stratum))
    return wanted


def _in_turn(cases: Sequence[Case], seed: int) -> dict[Bucket, deque[tuple[Case, int]]]:
    """Queues the cases by stratum and label, in an order drawn by seed, each at its first try."""
    queues: dict[Bucket, deque[tuple[Case, int]]] = defaultdict(deque)
    for case in sorted(cases, key=lambda case: hashlib.sha256(f"{seed}:teacher:{case.id}".encode()).digest()):
        queues[case.stratum, _label(case)].append((case, 0))
    return queues


def _label(case: Case) -> str:
    return str(case.truth["labels"][case.truth["value"]]) if tasks.of(case).options(case) else ""


def _next(
    lists: Mapping[Bucket, deque[tuple[Case, int]]],
    wanted: Mapping[Bucket, int],
    kept: Mapping[Bucket, Sequence[tuple[Case, str]]],
    asked: Counter[Bucket],
    tries: int,
) -> list[tuple[Bucket, Case, int]]:
    """Takes the next cases to ask, as many as are missing, and counts them in `asked`."""
    batch = []
    for bucket, queue in lists.items():
        missing = wanted[bucket] - len(kept.get(bucket, ()))
        for _ in range(min(missing, len(queue), tries * wanted[bucket] - asked[bucket])):
            batch.append((bucket, *queue.popleft()))
            asked[bucket] += 1
    return batch


def _ask(
    client: EndpointClient, recipe: Recipe, settings: Teacher, batch: Sequence[tuple[Bucket, Case, int]]
) -> list[Answer]:
    variant, sure = replace(variant_of(recipe), tool=False), settings.min_confidence > 0
    questions = [
        Question(
            tuple(teaching_messages(case, variant, confidence=sure)),
            settings.decoding,
            _draw(recipe.seed, case, attempt),
        )
        for _, case, attempt in batch
    ]
    unanswered = Counter[str]()
    with progress("teacher", len(batch)) as ticker:

        def answered(answer: Answer) -> None:
            unanswered.update([answer.failure] if answer.failure else [])
            ticker.advance(1, {"unanswered": unanswered.total(), "cost": client.cost()})

        return client.ask(questions, answered)


def _draw(seed: int, case: Case, attempt: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:teacher:{case.id}:{attempt}".encode()).digest()[:8], "little")


def _proven(case: Case, answer: Answer, settings: Teacher, thoughts: set[str]) -> tuple[str, str | None]:
    """Returns the worked answer as the model may learn it, and the reason to refuse it or None.
    Adds a kept answer to `thoughts`."""
    if answer.failure is not None:
        return "", f"{NO_ANSWER}: {answer.failure}"
    response, confidence = read_reply(answer.text)
    verdict = judge(case, response, finish_reason=answer.finish_reason)
    if not verdict.correct:
        return "", verdict.reason
    flawed = {finding.part for finding in audit(case, response).findings if finding.start is not None}
    if LEAK in flawed:
        return "", LEAKS
    for part in settings.audited:
        if part in flawed:
            return "", f"{FLAWED}: {part}"
    if settings.min_confidence > 0 and confidence is None:
        return "", UNSAID
    if settings.min_confidence > 0 and confidence is not None and confidence < settings.min_confidence:
        return "", UNSURE
    plain = " ".join(thinking_of(response).lower().split())
    if plain in thoughts:
        return "", COPY
    thoughts.add(plain)
    return lesson(response), None


def _balanced(
    kept: Mapping[Bucket, Sequence[tuple[Case, str]]], balance: float | None, refused: Counter[str]
) -> list[tuple[Case, str]]:
    """Drops kept answers of a label that a stratum has too many of, and counts them in
    `refused`."""
    fewest: dict[str, int] = {}
    for (stratum, _), pairs in kept.items():
        fewest[stratum] = min(len(pairs), fewest.get(stratum, len(pairs)))
    found: list[tuple[Case, str]] = []
    for bucket in sorted(kept):
        most = int(balance * fewest[bucket[0]]) if balance and bucket[1] else len(kept[bucket])
        found += kept[bucket][:most]
        refused[UNBALANCED] += max(0, len(kept[bucket]) - most)
    refused += Counter()  # without zeros
    return found


def _spread(pairs: Sequence[tuple[Case, str]], wanted: Mapping[Bucket, int]) -> tuple[ByLabel, ByLabel]:
    """Counts by stratum and label: answers there are, and answers missing from what was wanted."""
    there = Counter((case.stratum, _label(case)) for case, _ in pairs)
    by_label: dict[str, dict[str, int]] = defaultdict(dict)
    short: dict[str, dict[str, int]] = defaultdict(dict)
    for (stratum, label), count in sorted(wanted.items()):
        by_label[stratum] |= {label: there[stratum, label]} if label else {}
        short[stratum] |= {label or "any": count - there[stratum, label]} if count > there[stratum, label] else {}
    return (
        {stratum: counts for stratum, counts in by_label.items() if counts},
        {stratum: counts for stratum, counts in short.items() if counts},
    )
