"""Group-relative advantages: how much better an answer is than its siblings."""

from __future__ import annotations

import torch
from torch import Tensor

STD_FLOOR = 1e-4  # TRL's constant: an all-equal group divides 0 by this


def advantages(rewards_PG: Tensor, kind: str, valid_PG: Tensor | None = None) -> Tensor:
    """Advantages [P, G] of rewards [P, G].

    grpo: (r − mean) / (std + 1e-4), std unbiased (DeepSeekMath, arXiv 2402.03300, eq. 3 and its section 4.1.2)
    dr_grpo: r − mean (arXiv 2503.20783, section 3.1)
    rloo: r − mean of the other members (arXiv 2402.14740, eq. 7)

    Members that are not valid leave the statistics and get 0; so does a group with fewer than two valid members. Computed in
    fp64, so that equal rewards give exactly 0 and not a rounding error divided by 1e-4; returned in fp32.
    """
    if kind not in ("grpo", "dr_grpo", "rloo"):
        raise ValueError(f"unknown advantage {kind!r}; use grpo, dr_grpo or rloo")
    rewards_PG = rewards_PG.float().double()  # sums of fp32 numbers are exact in fp64
    valid_PG = torch.ones_like(rewards_PG, dtype=torch.bool) if valid_PG is None else valid_PG
    count_P1 = valid_PG.double().sum(1, keepdim=True)
    mean_P1 = rewards_PG.where(valid_PG, 0.0).sum(1, keepdim=True) / count_P1.clamp(min=1)
    centred_PG = (rewards_PG - mean_P1).where(valid_PG, 0.0)
    others_P1 = (count_P1 - 1).clamp(min=1)
    if kind == "grpo":
        centred_PG = centred_PG / ((centred_PG.square().sum(1, keepdim=True) / others_P1).sqrt() + STD_FLOOR)
    elif kind == "rloo":
        centred_PG = centred_PG * count_P1 / others_P1  # r − (sum − r)/(n − 1) = (r − mean)·n/(n − 1)
    return (centred_PG * (count_P1 >= 2)).float()
