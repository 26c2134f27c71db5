"""The baseline for labels of texts: logistic regression on TF-IDF weights of words (scikit-learn's
default settings).

It learns from the training cases and reads the text that the model is shown. Words of the patient
and of the trial have weights of their own. No choice is made by looking at tuning or held-out
cases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ehrmind import tasks
from ehrmind.runs.records import Guess
from ehrmind.stages.evaluation.guesses import by_label_task, guess_of_shares
from ehrmind.types import Case

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ITERATIONS = 1000
_WORD = re.compile(r"\w\w")  # as in scikit-learn, a word has two letters or more


def bag_of_words(train: Sequence[Case], asked: Sequence[Case]) -> dict[str, Guess]:
    """Returns guesses by case, for every task whose answers are labels of texts and that both
    splits have. Coded histories have gradient boosting instead. A task with one label or without
    words in training has no model and no guesses."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    found: dict[str, Guess] = {}
    questions = by_label_task(asked)
    for task, cases in by_label_task(train).items():
        there = questions.get(task, [])
        values = [case.truth["value"] for case in cases]
        if not there or cases[0].family == "ehr" or len(set(values)) < 2:
            continue
        matrices = _matrices([_texts(case) for case in cases], [_texts(case) for case in there])
        if matrices is None:
            continue
        model = LogisticRegression(max_iter=ITERATIONS).fit(matrices[0], values)
        shares = np.zeros((len(there), len(there[0].truth["labels"])))
        shares[:, model.classes_] = model.predict_proba(matrices[1])
        for case, row in zip(there, shares.tolist(), strict=True):
            found[case.id] = guess_of_shares(case, row)
    return found


def _texts(case: Case) -> tuple[str, str]:
    """Returns the two texts whose words have weights of their own: patient and trial, or record
    and question."""
    if case.family == "trials":
        return tasks.trials.patient(case), tasks.trials.trial(case)
    return tasks.of(case).record(case), tasks.of(case).question(case)


def _matrices(
    train: Sequence[tuple[str, str]], asked: Sequence[tuple[str, str]]
) -> tuple[csr_matrix, csr_matrix] | None:
    """Returns the weights of the words, a row per case, in train and in the asked cases; None if
    train has no word."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    parts = []
    for learned, read in zip(zip(*train, strict=True), zip(*asked, strict=True), strict=True):
        if any(map(_WORD.search, learned)):
            words = TfidfVectorizer()
            parts.append((words.fit_transform(learned), words.transform(read)))
    if not parts:
        return None
    return hstack([fitted for fitted, _ in parts], "csr"), hstack([seen for _, seen in parts], "csr")
