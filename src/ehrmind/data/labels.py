"""Makes truths of labels, counts labels by split, and balances them for training."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from ehrmind.types import Case


def label_truth(value: int, labels: Sequence[str]) -> dict[str, Any]:
    """Makes the truth that `tasks.labelled` checks. `value` is the index of the label."""
    return {"kind": "label", "value": value, "labels": list(labels)}


def label_form(labels: Sequence[str]) -> dict[str, Any]:
    """Makes a truth with the possible labels but no answer, for cases that are only predicted."""
    return {"kind": "label", "labels": list(labels), "unanswered": True}


def balanced(cases: Sequence[Case], ratio: float, seed: int) -> tuple[list[Case], int]:
    """Drops training cases of frequent labels; returns (the others, how many were dropped).

    Afterwards no label of a stratum's training cases is more than `ratio` times as frequent as the
    rarest one that occurs. A hash of seed and id decides which cases are dropped.
    """
    by_label: dict[str, dict[int, list[Case]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        if case.split == "train":
            by_label[case.stratum][case.truth["value"]].append(case)
    dropped: set[str] = set()
    for labels in by_label.values():
        most = max(1, round(ratio * min(map(len, labels.values()))))
        for members in labels.values():
            drawn = sorted(members, key=lambda case: hashlib.sha256(f"{seed}:balance:{case.id}".encode()).digest())
            dropped |= {case.id for case in drawn[most:]}
    return [case for case in cases if case.id not in dropped], len(dropped)


def labels_by_split(cases: Sequence[Case]) -> dict[str, dict[str, int]]:
    """Counts cases as {split: {label: cases}}, in the labels' order. All truths must be labels."""
    counted: dict[str, dict[str, int]] = {}
    for split in ("train", "tuning", "held_out"):
        mine = [case.truth for case in cases if case.split == split]
        times = Counter(truth["labels"][truth["value"]] for truth in mine)
        names = list(dict.fromkeys(name for truth in mine for name in truth["labels"]))
        if mine:
            counted[split] = {name: times[name] for name in names}
    return counted
