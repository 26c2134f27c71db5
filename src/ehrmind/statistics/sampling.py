"""Estimates from n samples of a question what fewer would give: pass@k, and the majority of k.

Exact over all choices of k; nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np

from ehrmind.rl.passk import pass_at_k
from ehrmind.statistics.intervals import mean_interval


def curve_ks(samples: int) -> list[int]:
    """Returns 1, 2, 4, 8 … and the number of samples itself."""
    return sorted({samples, *(2**power for power in range(samples.bit_length()) if 2**power <= samples)})


def pass_curve(samples: int, correct: Sequence[int], groups: Sequence[str], seed: int = 0) -> list[dict[str, object]]:
    """Returns pass@k (Chen et al. 2021) of questions with `correct` right samples each, with
    intervals over groups."""
    return curve({k: pass_at_k(samples, list(correct), k).tolist() for k in curve_ks(samples)}, groups, seed)


def curve(values_of_k: dict[int, list[float]], groups: Sequence[str], seed: int = 0) -> list[dict[str, object]]:
    """Returns one point per k: the mean of its values, one value per question."""
    points: list[dict[str, object]] = []
    for k, values in values_of_k.items():
        found = mean_interval(values, groups, seed=seed)
        points.append(
            {"k": k, "value": float(np.mean(values)), "ci95": [found.low, found.high], "interval": found.method}
        )
    return points


def majority_at(votes: Sequence[int], right: Sequence[float], blank: int, k: int) -> float:
    """Returns how often the commonest answer of k out of n samples is right.

    This is exact over all choices of the k (multivariate hypergeometric law). `votes` has how many
    samples gave each answer, `right` how right that answer is (0 or 1), and `blank` how many
    samples gave none. Blank samples cast no vote; k of them together are wrong. A tie is broken by
    an even draw among the commonest.
    """
    if not 1 <= k <= sum(votes) + blank:
        raise ValueError(f"the majority of {k} needs at least {k} samples, and there are {sum(votes) + blank}")
    order = sorted(range(len(votes)), key=lambda place: -votes[place])
    chances_k = _chances(tuple(votes[place] for place in order), blank)
    return float(sum(chances_k[votes[place]][k] * right[place] for place in order))


@lru_cache(maxsize=100_000)
def _chances(votes: tuple[int, ...], blank: int) -> dict[int, np.ndarray]:
    """Returns, by number of votes and by k, the chance that an answer is chosen. Answers with equal
    votes have equal chances."""
    samples = sum(votes) + blank
    choices_k = np.array([float(comb(samples, k)) for k in range(samples + 1)])
    free = np.array([float(comb(blank, drawn)) for drawn in range(blank + 1)])
    return {size: _ways(size, _without(votes, size), free, samples) / choices_k for size in set(votes)}


def _ways(size: int, others: tuple[int, ...], free: np.ndarray, samples: int) -> np.ndarray:
    """Counts by k the choices of k samples in which this answer has most votes.

    A tie with t others counts 1 / (1 + t).
    """
    ways_k = np.zeros(samples + 1)
    for mine in range(1, size + 1):
        rivals = sum(other >= mine for other in others)
        # ts: by ties, and by samples drawn from the others
        ways_ts = np.zeros((rivals + 1, sum(min(other, mine) for other in others) + 1))
        ways_ts[0, 0] = 1.0
        for other in others:
            ways_ts = _with_other(ways_ts, other, mine)
        ways_s = np.convolve((ways_ts / np.arange(1, rivals + 2)[:, None]).sum(axis=0), free)
        ways_k[mine : mine + len(ways_s)] += comb(size, mine) * ways_s
    return ways_k


def _with_other(ways_ts: np.ndarray, other: int, most: int) -> np.ndarray:
    """Adds one more answer, drawn at most `most` times; drawing it exactly `most` times is a
    tie."""
    grown = np.zeros_like(ways_ts)
    width = ways_ts.shape[1]
    for drawn in range(min(other, most) + 1):
        tied = int(drawn == most)
        grown[tied:, drawn:] += ways_ts[: len(ways_ts) - tied, : width - drawn] * float(comb(other, drawn))
    return grown


def _without(votes: tuple[int, ...], size: int) -> tuple[int, ...]:
    place = votes.index(size)
    return votes[:place] + votes[place + 1 :]
