"""Measures the text that held-out cases share with training text, beyond the leak check by group.

The method compares 13-grams of words, in lower case and without punctuation, as for GPT-3 (Brown et
al. 2020, arXiv 2005.14165, appendix C). The code calls an n-gram a run. Runs are hashed to 64 bits
and never stored as words; time and memory grow linearly with the text. A run that occurs in many
groups of held-out cases is template text and does not count. Nothing is dropped: the reader
decides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ehrmind.types import Case

if TYPE_CHECKING:
    import numpy as np

WORDS = 13
# A run in more than this share of the held-out groups, and in more than `FEW`, is template text.
COMMON = 0.01
FEW = 2
RECORDS = ("note", "record", "history")
_WORD = re.compile(r"\w+")


def shared_text(
    held_out: Sequence[Case], known: Mapping[str, Iterable[str]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns (figures, rows); a row has a case's id, the other text's name and the shared part.

    A case's record is compared, or all its fields if it has no record; question texts are those of
    the task. Nothing can be said about records shorter than a run (`too_short`) or made of template
    text only (`template_only`).
    """
    import numpy as np

    runs = [_runs(_record(case)) for case in held_out]
    places = {group: place for place, group in enumerate(sorted({case.group for case in held_out}))}
    limit = max(FEW, int(COMMON * len(places)))
    template = _in_many_groups(runs, [places[case.group] for case in held_out], limit)
    counts = [len(found) for found in runs]
    every = np.concatenate([np.array([], dtype=np.uint64), *runs])
    counted = ~_is_in(every, template)
    rows: list[dict[str, Any]] = []
    against: dict[str, dict[str, Any]] = {}
    for name, texts in known.items():
        theirs = np.unique(np.concatenate([np.array([], dtype=np.uint64), *map(_runs, texts)]))
        shares = _shares(_is_in(every, theirs) & counted, counted, counts)
        rows += [
            {"case": case.id, "with": name, "share": round(share, 4)}
            for case, share in zip(held_out, shares, strict=True)
            if share
        ]
        against[name] = {
            "any": sum(share > 0 for share in shares),
            "half": sum(share >= 0.5 for share in shares),
            "mean_share": sum(shares) / max(1, len(shares)),
        }
    return {
        "words": WORDS,
        "cases": len(held_out),
        "too_short": counts.count(0),
        "template_only": _only_template(counted, counts),
        "template": {"in_more_groups_than": limit, "runs": len(template)},
        "against": against,
    }, rows


def learned_from(cases: Sequence[Case]) -> Iterable[str]:
    """Yields the texts that a model can learn from a case: its fields and its worked answer."""
    for case in cases:
        yield from case.fields.values()
        yield case.rationale or ""


def _record(case: Case) -> str:
    return " ".join([case.fields[name] for name in RECORDS if case.fields.get(name)] or list(case.fields.values()))


def _is_in(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """Tells which of `these` are in `those`, which are sorted; one search serves all texts."""
    import numpy as np

    if not len(those):
        return np.zeros(len(these), dtype=bool)
    places = np.searchsorted(those, these).clip(max=len(those) - 1)
    return np.asarray(those[places] == these)


def _shares(shared: np.ndarray, counted: np.ndarray, counts: Sequence[int]) -> list[float]:
    """Computes the share of each text's counted runs that is shared; 0 for a text without any."""
    import numpy as np

    text = np.repeat(np.arange(len(counts)), counts)
    common, whole = (np.bincount(text, which, minlength=len(counts)) for which in (shared, counted))
    return [float(share) for share in common / np.maximum(whole, 1)]


def _only_template(counted: np.ndarray, counts: Sequence[int]) -> int:
    """Counts the texts whose runs are all template text."""
    import numpy as np

    of_text = np.bincount(np.repeat(np.arange(len(counts)), counts), counted, minlength=len(counts))
    return int(((np.array(counts) > 0) & (of_text == 0)).sum())


def _in_many_groups(runs: Sequence[np.ndarray], groups: Sequence[int], limit: int) -> np.ndarray:
    import numpy as np

    if not runs:
        return np.array([], dtype=np.uint64)
    pairs = np.unique(
        np.stack([np.concatenate(runs), np.repeat(np.array(groups, dtype=np.uint64), [len(found) for found in runs])]),
        axis=1,
    )
    found, times = np.unique(pairs[0], return_counts=True)
    return found[times > limit]


def _runs(text: str) -> np.ndarray:
    """Hashes the distinct runs of `WORDS` words: a polynomial of the words' hashes, modulo 2^64."""
    import numpy as np

    words = np.array([_hash(word) for word in _WORD.findall(text.casefold())], dtype=np.uint64)
    count = len(words) - WORDS + 1
    if count <= 0:
        return np.array([], dtype=np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    for place in range(WORDS):
        total = total * np.uint64(0x9E3779B97F4A7C15) + words[place : place + count]
    return np.unique(total)


@lru_cache(maxsize=1_000_000)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
