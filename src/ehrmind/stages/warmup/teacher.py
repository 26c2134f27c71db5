"""Worked answers from a teacher, a stronger model behind an endpoint that is told the gold labels (arXiv 2505.24105 has 3,000 of them
for trial matching). Each must be right by the judge, say nothing of having known, reason without a flaw that the process audit finds, be
sure enough, and be no copy of another.

Only training cases are sent. Answers are asked for evenly over strata and labels, more where the pilot saw more wrong; a case whose answer
is refused is tried again, and no label of a stratum is asked for more often than `tries` times what is wanted of it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ehrmind import tasks
from ehrmind.config import Recipe, Teacher
from ehrmind.engines.answers import Answer, Question
from ehrmind.engines.endpoint import EndpointClient
from ehrmind.process_audit import audit
from ehrmind.process_audit.conclusion import LEAK
from ehrmind.prompts.teaching import lesson, read_reply, teaching_messages, thinking_of
from ehrmind.runs import Run
from ehrmind.stages.progress import progress
from ehrmind.stages.rollout import variant_of
from ehrmind.types import Case
from ehrmind.verify import judge

Bucket = tuple[str, str]  # stratum and label; "" where answers are no labels
LEAST_NEED = 0.05  # of a stratum that the pilot found solved
NO_ANSWER, LEAKS, UNSURE, UNSAID = (
    "no answer",
    "the label shows in the reasoning",
    "low confidence",
    "no confidence given",
)
FLAWED, COPY, UNBALANCED = "flawed reasoning", "the same as another", "more of its label than balance allows"


def taught(
    run: Run, recipe: Recipe, cases: Sequence[Case], diagnosis: Mapping[str, Any] | None
) -> tuple[list[tuple[Case, str]], dict[str, Any]]:
    """Cases of `train` with their worked answers, and counts: asked, accepted, refused by reason, tokens, cost. Goes on after its last
    answer."""
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
    return pairs, {
        "asked": asked.total(),
        "accepted": len(pairs),
        "refused": dict(refused),
        **_spread(pairs, wanted),
        **client.facts(),
    }


def needs(diagnosis: Mapping[str, Any] | None) -> dict[str, float]:
    """By stratum: what the pilot saw wrong."""
    found = (diagnosis or {}).get("by_stratum", {})
    return {stratum: max(LEAST_NEED, 1.0 - figures["pass@1"]) for stratum, figures in found.items()}


def quotas(
    sizes: Mapping[Bucket, int], total: int, need: Mapping[str, float], balance: float | None, per_stratum: int | None
) -> dict[Bucket, int]:
    """How many of `total` each label of each stratum gives: strata in proportion to their need, their labels evenly, and no label of a
    stratum more than `balance` times what the rarest has."""
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
    """By stratum and label, in an order drawn by seed, each at its first try."""
    queues: dict[Bucket, deque[tuple[Case, int]]] = defaultdict(deque)
    for case in sorted(cases, key=lambda case: hashlib.sha256(f"{seed}:teacher:{case.id}".encode()).digest()):
        queues[case.stratum, _label(case)].append((case, 0))
    return queues


def _label(case: Case) -> str:
    return str(case.truth["labels"][case.truth["value"]]) if tasks.of(case).options(case) else ""


def _next(
    lists: Mapping[Bucket, deque[tuple[Case, int]]],
    wanted: Mapping[Bucket, int],
    kept: Mapping[Bucket, Sequence[Any]],
    asked: Counter[Bucket],
    tries: int,
) -> list[tuple[Bucket, Case, int]]:
    """What is asked at once: as many as are missing. Counted in `asked`."""
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
    gaps: list[str] = []
    with progress("teacher", len(batch)) as ticker:

        def answered(answer: Answer) -> None:
            gaps.extend([answer.failure] if answer.failure else [])
            ticker.advance(1, {"unanswered": len(gaps), "cost": client.cost()})

        return client.ask(questions, answered)


def _draw(seed: int, case: Case, attempt: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:teacher:{case.id}:{attempt}".encode()).digest()[:8], "little")


def _proven(case: Case, answer: Answer, settings: Teacher, thoughts: set[str]) -> tuple[str, str | None]:
    """The worked answer as it may be learnt, and the reason why it may not (None: it may). What may be learnt joins `thoughts`."""
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
    """What was kept, without what a stratum has too much of one label; that is counted in `refused`."""
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


def _spread(pairs: Sequence[tuple[Case, str]], wanted: Mapping[Bucket, int]) -> dict[str, Any]:
    """By stratum and label: what there is, and how many fewer than were wanted."""
    there = Counter((case.stratum, _label(case)) for case, _ in pairs)
    by_label: dict[str, dict[str, int]] = defaultdict(dict)
    short: dict[str, dict[str, int]] = defaultdict(dict)
    for (stratum, label), count in sorted(wanted.items()):
        by_label[stratum] |= {label: there[stratum, label]} if label else {}
        short[stratum] |= {label or "any": count - there[stratum, label]} if count > there[stratum, label] else {}
    return {
        "by_label": {s: counts for s, counts in by_label.items() if counts},
        "short": {s: counts for s, counts in short.items() if counts},
    }
