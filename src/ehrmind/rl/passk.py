"""pass@k, the chance that at least one of k samples is right (Chen et al. 2021, arXiv
2107.03374)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def pass_at_k(samples: int, correct: ArrayLike, k: int) -> np.ndarray:
    """The unbiased estimate 1 − C(n − c, k) / C(n, k) for each question with c right among n
    samples.

    Computed as a product of ratios, which stays exact where binomials overflow. Raises ValueError
    unless 1 ≤ k ≤ n.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, and there are {samples}")
    wrong_Q = samples - np.asarray(correct, dtype=np.int64)
    draws_k = np.arange(k)
    misses_Qk = np.clip(wrong_Q[..., None] - draws_k, 0, None) / (samples - draws_k)
    return 1.0 - misses_Qk.prod(axis=-1)
