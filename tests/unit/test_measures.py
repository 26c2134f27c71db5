"""Measures of labels and of rankings, against what a hand computes."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.measures import label_measures, ranking_measures, risk_measures, trec_run
from ehrmind.types import InputError

LABELS = ("not relevant", "excluded", "eligible")


def test_accuracy_balanced_accuracy_and_confusion_are_counted_by_hand() -> None:
    found = label_measures([0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, None, 2, 0], LABELS)
    assert found["accuracy"] == 5 / 8
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert found["confusion"] == [[3, 1, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0]]


def test_macro_f1_is_the_mean_over_labels_and_a_malformed_answer_is_a_miss() -> None:
    found = label_measures([0, 0, 1, 1], [0, 1, 1, None], LABELS)
    f1_of_0, f1_of_1 = 2 * 1 * 0.5 / 1.5, 0.5  # precision 1, recall 1/2; precision 1/2, recall 1/2
    assert found["macro_f1"] == pytest.approx((f1_of_0 + f1_of_1) / 2)


def test_kappa_is_agreement_beyond_chance() -> None:
    found = label_measures([0] * 5 + [1] * 5, [0] * 4 + [1] * 5 + [0], LABELS)
    assert found["kappa"] == pytest.approx((0.8 - 0.5) / (1 - 0.5))
    assert label_measures([0, 0], [0, 0], LABELS)["kappa"] == 0.0


def test_the_balanced_figures_are_those_of_equal_classes() -> None:
    """Nine of one label and three of the other, all answered alike per label: weighting is the same
    as repeating the rarer."""
    skewed = label_measures([0] * 9 + [2] * 3, [0] * 6 + [2] * 3 + [2, 2, 0], LABELS)
    equal = label_measures([0] * 9 + [2] * 9, [0] * 6 + [2] * 3 + [2, 2, 0] * 3, LABELS)
    assert skewed["balanced"]["macro_f1"] == pytest.approx(equal["macro_f1"])
    assert skewed["balanced"]["kappa"] == pytest.approx(equal["kappa"])
    assert skewed["balanced_accuracy"] == pytest.approx(equal["accuracy"])


def test_a_ranking_is_scored_as_trec_does() -> None:
    topics, documents = ["a"] * 4 + ["b"] * 2 + ["c"] * 2, ["d1", "d2", "d3", "d4", "d1", "d2", "d1", "d2"]
    grades, scores = [0, 1, 2, 2, 2, 0, 0, 1], [0.9, 0.8, 0.7, 0.1, 0.6, 0.2, 0.5, 0.4]
    found = ranking_measures(topics, documents, grades, scores)
    assert found is not None and (found["topics"], found["topics_without_eligible"]) == (2, 1)
    gained = 1 / math.log2(3) + 2 / math.log2(4) + 2 / math.log2(5)
    best = 2 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert found["ndcg@10"] == pytest.approx((gained / best + 1) / 2)
    assert found["p@10"] == pytest.approx((2 / 10 + 1 / 10) / 2)
    assert found["r_precision"] == pytest.approx((0 + 1) / 2)  # two eligible for a, none of its first two is
    assert found["mrr"] == pytest.approx((1 / 3 + 1) / 2)


def test_no_eligible_trial_anywhere_gives_no_ranking() -> None:
    assert ranking_measures(["a"], ["d"], [1], [0.5]) is None


def test_a_run_file_has_six_columns_the_best_first() -> None:
    text = trec_run(["2", "1", "1"], ["d3", "d1", "d2"], [0.5, 0.25, 1.75], "base-greedy")
    assert text == "1 Q0 d2 1 1.75 base-greedy\n1 Q0 d1 2 0.25 base-greedy\n2 Q0 d3 1 0.5 base-greedy\n"
    with pytest.raises(InputError, match="one word"):
        trec_run(["1"], ["d"], [1.0], "two words")


@given(st.lists(st.floats(0, 2), min_size=1, max_size=30), st.randoms())
def test_the_scores_of_a_run_file_have_its_ranks(drawn: list[float], draw: random.Random) -> None:
    close = [math.nextafter(score, 3) for score in drawn]
    scores = draw.sample(drawn + close, 2 * len(drawn))
    documents = [f"d{place:02}" for place in range(len(scores))]
    lines = [line.split(" ") for line in trec_run(["7"] * len(scores), documents, scores, "arm").splitlines()]
    assert [float(line[4]) for line in lines] == sorted(scores, reverse=True)
    by_score = sorted(lines, key=lambda line: (-float(line[4]), line[2]))
    assert by_score == lines and [int(line[3]) for line in lines] == list(range(1, len(scores) + 1))


def test_scores_that_differ_in_the_seventh_place_keep_their_order_where_a_run_file_is_scored() -> None:
    import ir_measures

    scores = [1.0000001, 1.0000003, 1.0000002]
    text = trec_run(["1"] * 3, ["d1", "d2", "d3"], scores, "arm")
    qrels = {"1": {"d1": 0, "d2": 2, "d3": 0}}
    assert (
        ir_measures.calc_aggregate([ir_measures.RR], qrels, list(ir_measures.read_trec_run(text)))[ir_measures.RR]
        == 1.0
    )


def test_risks_are_ranked_and_their_intervals_are_over_subjects() -> None:
    outcomes, risks = [False] * 30 + [True] * 10, [0.1 + 0.01 * place for place in range(30)] + [0.35, *[0.6] * 9]
    subjects = [f"s{place}" for place in range(40)]
    found = risk_measures(outcomes, risks, subjects)
    assert found["auroc"] == pytest.approx((9 * 30 + 25.5) / 300)  # the last is above 25 negatives and level with one
    assert found["brier"] == pytest.approx(
        sum((risk - outcome) ** 2 for risk, outcome in zip(risks, outcomes, strict=True)) / 40
    )
    low, high = found["ci95"]["auroc"]
    assert low < found["auroc"] <= high
    alike = risk_measures(outcomes, risks, [f"s{place % 5}" for place in range(40)])
    assert alike["ci95"]["auroc"] != found["ci95"]["auroc"] and alike["subjects"] == 5
    assert sum(tenth["n"] for tenth in found["calibration"]) == 40 and found["calibration"][-1]["observed"] == 1.0


def test_one_outcome_only_has_no_auroc() -> None:
    found = risk_measures([False, False], [0.2, 0.4], ["a", "b"])
    assert found["auroc"] is None and found["brier"] == pytest.approx((0.04 + 0.16) / 2)
