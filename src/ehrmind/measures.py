"""Measures of answers that are labels, as the field reports them. scikit-learn and ir-measures do
the arithmetic.

Measures that depend on prevalence are given twice: as the cases are, and with every label weighted
alike (`balanced`). Half of the literature resamples its test sets to equal classes and half does
not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ehrmind.types import InputError

MALFORMED = -1


def label_measures(truths: Sequence[int], answers: Sequence[int | None], labels: Sequence[str]) -> dict[str, Any]:
    """Returns accuracy, balanced accuracy, macro F1, Cohen's kappa and the confusion matrix.

    In the matrix, rows are truths and columns are answers, malformed last. An answer that is None
    was malformed and is wrong. Labels without cases are left out of every mean.
    """
    import numpy as np
    from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score

    truth = np.array(truths)
    answered = np.array([MALFORMED if answer is None else answer for answer in answers])
    there = sorted(set(truths))
    counts = {label: int((truth == label).sum()) for label in there}
    weight = np.array([1 / counts[value] for value in truths])
    every = [*range(len(labels)), MALFORMED]

    def figures(weights: Any) -> dict[str, float]:
        one_label = len(set(truths) | set(answered.tolist())) == 1  # kappa is then 0 / 0
        return {
            "macro_f1": float(
                f1_score(truth, answered, labels=there, average="macro", sample_weight=weights, zero_division=0.0)
            ),
            "kappa": 0.0
            if one_label
            else float(cohen_kappa_score(truth, answered, labels=every, sample_weight=weights)),
        }

    recalls = [float((answered[truth == label] == label).mean()) for label in there]
    return {
        "n": len(truths),
        "accuracy": float((truth == answered).mean()),
        "balanced_accuracy": sum(recalls) / len(recalls),
        **figures(None),
        "balanced": figures(weight),
        "labels": list(labels),
        "confusion": confusion_matrix(truth, answered, labels=every)[: len(labels)].tolist(),
    }


def ranking_measures(
    topics: Sequence[str], documents: Sequence[str], grades: Sequence[int], scores: Sequence[float]
) -> dict[str, Any] | None:
    """Returns nDCG@10 (gain: the grade), P@10, R-precision and reciprocal rank (relevant: the
    highest grade, 2).

    ir-measures computes them as TREC Clinical Trials scores runs: means over the topics with at
    least one eligible trial among those ranked. Returns None if no topic has one, or if ir-measures
    is not installed (`pip install 'ehrmind[trials]'`).
    """
    try:
        import ir_measures
        from ir_measures import RR, P, Rprec, nDCG
    except ImportError:
        return None

    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    run: dict[str, dict[str, float]] = defaultdict(dict)
    for topic, document, grade, score in zip(topics, documents, grades, scores, strict=True):
        qrels[topic][document], run[topic][document] = grade, score
    kept = sorted(topic for topic, judged in qrels.items() if 2 in judged.values())
    if not kept:
        return None
    names = {nDCG @ 10: "ndcg@10", P(rel=2) @ 10: "p@10", Rprec(rel=2): "r_precision", RR(rel=2): "mrr"}
    found = ir_measures.calc_aggregate(
        list(names), {topic: qrels[topic] for topic in kept}, {topic: run[topic] for topic in kept}
    )
    return {
        "topics": len(kept),
        "topics_without_eligible": len(qrels) - len(kept),
        **{names[measure]: found[measure] for measure in names},
    }


def trec_run(topics: Sequence[str], documents: Sequence[str], scores: Sequence[float], tag: str) -> str:
    """Writes a TREC run file: `topic Q0 document rank score tag`, the best first, ties by document.

    Scores keep all their digits, so sorting by score gives these ranks. trec_eval keeps seven
    digits and breaks ties the other way round.
    """
    if not tag or tag.split() != [tag]:
        raise InputError(f"'{tag}' is no tag of a run file: it must be one word.")
    by_topic: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for topic, document, score in zip(topics, documents, scores, strict=True):
        by_topic[topic].append((-score, document))
    return "".join(
        f"{topic} Q0 {document} {rank} {-lost!r} {tag}\n"
        for topic in sorted(by_topic)
        for rank, (lost, document) in enumerate(sorted(by_topic[topic]), start=1)
    )


RESAMPLES = 1000


def risk_measures(outcomes: Sequence[bool], risks: Sequence[float], subjects: Sequence[str]) -> dict[str, Any]:
    """Returns AUROC, AUPRC and Brier score of risks, F1 and balanced accuracy at 0.5, and
    calibration in tenths.

    The first three have 95 % intervals from a bootstrap over subjects; a subject's cases are alike,
    so resampling cases would give too narrow intervals. AUROC and AUPRC are None if only one
    outcome occurs.
    """
    import numpy as np
    from sklearn.metrics import (
        average_precision_score,
        balanced_accuracy_score,
        brier_score_loss,
        f1_score,
        roc_auc_score,
    )

    truth, risk = np.array(outcomes, dtype=int), np.array(risks)
    both = len(set(outcomes)) == 2

    def figures(rows: Any) -> tuple[float, float, float]:
        return (
            float(roc_auc_score(truth[rows], risk[rows])),
            float(average_precision_score(truth[rows], risk[rows])),
            float(brier_score_loss(truth[rows], risk[rows])),
        )

    names = ("auroc", "auprc", "brier")
    found: dict[str, Any] = {"n": len(truth), "positive": int(truth.sum()), "subjects": len(set(subjects))}
    if both:
        found |= dict(zip(names, figures(slice(None)), strict=True))
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row, subject in enumerate(subjects):
            rows_of[subject].append(row)
        members = [np.array(rows_of[subject]) for subject in sorted(rows_of)]
        draw = np.random.default_rng(0)
        samples = [
            np.concatenate([members[place] for place in draw.integers(len(members), size=len(members))])
            for _ in range(RESAMPLES)
        ]
        drawn = np.array([figures(rows) for rows in samples if 0 < truth[rows].sum() < len(rows)])
        if len(drawn) > RESAMPLES // 2:
            found["ci95"] = {
                name: np.quantile(drawn[:, place], (0.025, 0.975)).tolist() for place, name in enumerate(names)
            }
    else:
        found |= {"auroc": None, "auprc": None, "brier": float(np.mean((truth - risk) ** 2))}
    found["f1"] = float(f1_score(truth, risk >= 0.5, zero_division=0.0))
    found["balanced_accuracy"] = float(balanced_accuracy_score(truth, risk >= 0.5)) if both else None
    tenth = np.minimum((risk * 10).astype(int), 9)
    found["calibration"] = [
        {
            "risk": float(risk[tenth == place].mean()),
            "observed": float(truth[tenth == place].mean()),
            "n": int((tenth == place).sum()),
        }
        for place in range(10)
        if (tenth == place).any()
    ]
    return found
