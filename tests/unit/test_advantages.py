"""rl/advantages: group-relative advantages against their published forms, and what leaves the
statistics.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.rl.advantages import advantages

KINDS = ("grpo", "dr_grpo", "rloo")
REWARDS = st.sampled_from([-2.0, 0.0, 1.1])
GROUPS = st.integers(2, 12).flatmap(
    lambda size: st.lists(st.lists(REWARDS, min_size=size, max_size=size), min_size=1, max_size=4)
)


def test_grpo_divides_by_the_unbiased_standard_deviation_and_its_floor() -> None:
    rewards_PG = torch.tensor([[1.0, 2.0, 6.0]])
    expected = (rewards_PG - 3.0) / (rewards_PG.std(unbiased=True) + 1e-4)
    torch.testing.assert_close(advantages(rewards_PG, "grpo"), expected)


def test_dr_grpo_only_takes_the_mean_away() -> None:
    assert advantages(torch.tensor([[1.0, 2.0, 6.0]]), "dr_grpo").tolist() == [[-2.0, -1.0, 3.0]]


@given(GROUPS)
def test_rloo_is_the_reward_less_the_mean_of_the_others(groups: list[list[float]]) -> None:
    expected = [[r - (sum(group) - r) / (len(group) - 1) for r in group] for group in groups]
    torch.testing.assert_close(advantages(torch.tensor(groups), "rloo"), torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, 7, 8, 12, 48])
def test_a_group_of_equal_rewards_teaches_exactly_nothing(kind: str, size: int) -> None:
    for reward in (1.1, -2.0, 0.1, 1 / 3):
        assert not advantages(torch.full((2, size), reward), kind).any()
        assert not advantages(torch.full((2, size), reward, dtype=torch.float64), kind).any()


@pytest.mark.parametrize("kind", KINDS)
@given(groups=GROUPS, data=st.data())
def test_members_left_out_get_0_and_the_others_are_as_if_they_were_never_there(
    kind: str, groups: list[list[float]], data: st.DataObject
) -> None:
    rewards_PG = torch.tensor(groups)
    valid = data.draw(st.lists(st.booleans(), min_size=rewards_PG.numel(), max_size=rewards_PG.numel()))
    valid_PG = torch.tensor(valid).view_as(rewards_PG)
    unlucky_PG = rewards_PG.where(valid_PG, torch.nan)  # what is left out may not even be a number
    for rewards, keep, got in zip(rewards_PG, valid_PG, advantages(unlucky_PG, kind, valid_PG), strict=True):
        assert not got[~keep].any()
        alone = advantages(rewards[keep][None], kind)[0] if keep.sum() >= 2 else torch.zeros(int(keep.sum()))
        torch.testing.assert_close(got[keep], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_advantages_are_fp32_of_the_same_shape_and_sum_to_0(kind: str) -> None:
    rewards_PG = torch.tensor([[1.1, 0.0, -2.0, 1.1], [0.0, 0.0, 1.1, 0.0]], dtype=torch.float64)
    got = advantages(rewards_PG, kind)
    assert got.shape == rewards_PG.shape and got.dtype == torch.float32
    assert got.sum(1).abs().max() < 1e-5


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="gae"):
        advantages(torch.ones(1, 2), "gae")
