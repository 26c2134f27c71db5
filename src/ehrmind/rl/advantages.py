"""Group-relative advantages: how much better an answer is than the others of its group.
`ADVANTAGES` lists the kinds.

Torch is imported by the functions, so that a recipe can list the kinds without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

STD_FLOOR = 1e-4  # as in TRL: an all-equal group divides 0 by this


def centred(rewards_PG: Tensor, valid_PG: Tensor) -> tuple[Tensor, Tensor]:
    """Rewards minus the mean of the group's valid answers, 0 if not valid [P, G]; and how many are
    valid [P, 1].
    """
    count_P1 = valid_PG.double().sum(1, keepdim=True)
    mean_P1 = rewards_PG.where(valid_PG, 0.0).sum(1, keepdim=True) / count_P1.clamp(min=1)
    return (rewards_PG - mean_P1).where(valid_PG, 0.0), count_P1


def grpo(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """(r − mean) / (std + 1e-4), with the unbiased std (DeepSeekMath, arXiv 2402.03300, eq. 3 and
    section 4.1.2).
    """
    centred_PG, count_P1 = centred(rewards_PG, valid_PG)
    variance_P1 = centred_PG.square().sum(1, keepdim=True) / (count_P1 - 1).clamp(min=1)
    return centred_PG / (variance_P1.sqrt() + STD_FLOOR)


def dr_grpo(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """r − mean (arXiv 2503.20783, section 3.1)."""
    return centred(rewards_PG, valid_PG)[0]


def rloo(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """r − mean of the others (arXiv 2402.14740, eq. 7), computed as (r − mean) · n / (n − 1)."""
    centred_PG, count_P1 = centred(rewards_PG, valid_PG)
    return centred_PG * count_P1 / (count_P1 - 1).clamp(min=1)


ADVANTAGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"grpo": grpo, "dr_grpo": dr_grpo, "rloo": rloo}


def advantages(rewards_PG: Tensor, kind: str, valid_PG: Tensor | None = None) -> Tensor:
    """Advantages [P, G] of rewards [P, G], of the named kind.

    Answers that are not valid are left out of the statistics and get 0. A group with fewer than two
    valid answers gets 0. Computed in fp64, so that equal rewards give exactly 0 and not a rounding
    error divided by 1e-4; returned in fp32.
    """
    import torch

    if kind not in ADVANTAGES:
        raise ValueError(f"unknown advantage {kind!r}; use one of {', '.join(ADVANTAGES)}")
    rewards_PG = rewards_PG.float().double()  # sums of fp32 numbers are exact in fp64
    valid_PG = torch.ones_like(rewards_PG, dtype=torch.bool) if valid_PG is None else valid_PG
    found_PG = ADVANTAGES[kind](rewards_PG, valid_PG).where(valid_PG, 0.0)
    return (found_PG * (valid_PG.sum(1, keepdim=True) >= 2)).float()
