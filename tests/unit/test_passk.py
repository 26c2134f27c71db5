"""rl/passk: the unbiased estimate against drawing every subset."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.rl.passk import pass_at_k


@pytest.mark.parametrize("samples", [1, 2, 5, 8])
def test_it_is_the_share_of_k_subsets_that_hold_a_right_answer(samples: int) -> None:
    for correct in range(samples + 1):
        answers = [True] * correct + [False] * (samples - correct)
        for k in range(1, samples + 1):
            drawn = [any(subset) for subset in combinations(answers, k)]
            assert pass_at_k(samples, correct, k) == pytest.approx(sum(drawn) / len(drawn), abs=1e-12)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_it_agrees_with_exact_binomials_where_floats_of_them_overflow(numbers: tuple[int, int, int]) -> None:
    samples, correct, k = numbers
    exact = 1 - comb(samples - correct, k) / comb(samples, k)
    assert float(pass_at_k(samples, correct, k)) == pytest.approx(exact, abs=1e-9)


def test_questions_are_computed_at_once_and_their_mean_is_the_figure() -> None:
    per_question = pass_at_k(12, [0, 1, 6, 12], 12)
    assert per_question.tolist() == [0.0, 1.0, 1.0, 1.0]
    np.testing.assert_allclose(pass_at_k(12, [0, 3, 12], 1), [0.0, 0.25, 1.0])


@pytest.mark.parametrize("k", [0, 9, -1])
def test_more_draws_than_samples_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        pass_at_k(8, [1], k)


def test_no_question_gives_no_figure() -> None:
    assert pass_at_k(8, [], 8).shape == (0,)
