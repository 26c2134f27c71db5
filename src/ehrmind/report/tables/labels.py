"""Figures of a run -> the tables of answers that are labels, and of cases elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ehrmind.report.formatting import ABSENT, Cell, Table, accuracy, arm_name, number, percent
from ehrmind.report.reading import Figures

Rows = list[list[str | Cell]]
MEASURES = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "kappa": "Cohen's κ",
}
ANSWER_TOKENS = "answer_tokens"
RISK = {"auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier"}
RANKING = {"ndcg@10": "nDCG@10", "p@10": "P@10", "r_precision": "R-precision", "mrr": "MRR"}


def measures(figures: Figures) -> Table | None:
    """What families report whose answers are labels; None where no family of the run has such answers."""
    found = [
        (task, arm, row)
        for arm in figures.arms
        for task, row in figures.results["arms"][arm].get("measures", {}).items()
    ]
    baselines = figures.results.get("baselines", {})
    found += [(task, name, row) for name, rows in baselines.items() for task, row in rows.items()]
    order = [*figures.arms, *baselines]
    if not found:
        return None
    ranked = any(row.get("ranking") for _, _, row in found)
    risky = any(row.get("risk") for _, _, row in found)
    rows: Rows = []
    for task, arm, row in sorted(found, key=lambda place: (place[0], order.index(place[1]))):
        ranks = row.get("ranking") or {}
        cells: list[str | Cell] = [task, arm_name(arm), number(row["n"]), *(number(row[name]) for name in MEASURES)]
        cells += [number(row["balanced"]["macro_f1"]), number(row["balanced"]["kappa"])]
        cells += [_risk(row.get("risk"), name) for name in RISK] if risky else []
        rows.append([*cells, *((number(ranks.get(name)) for name in RANKING) if ranked else ())])
    caption = (
        f"Measures of labels at {figures.results['decoding']} decoding: as prevalent as they are, then macro F1 and κ with every label "
        "weighted alike (accuracy is then balanced accuracy)."
    )
    if ranked:
        caption += (
            " Ranking: each patient's trials by the grade the model expects, over the patients with an eligible trial; nDCG's gain is the "
            "grade, the others count eligible trials only."
        )
    if risky:
        caption += " The risk is the probability of any label but the first; intervals are a bootstrap over subjects."
    if (ranked or risky) and figures.results.get("probabilities", ANSWER_TOKENS) != ANSWER_TOKENS:
        caption += f" Probabilities are shares of further answers to each question: {figures.results['probabilities']}."
    alike = ("Macro F1, balanced", "κ, balanced")
    titles = [
        "Task",
        "Arm",
        "Cases",
        *MEASURES.values(),
        *alike,
        *(RISK.values() if risky else ()),
        *(RANKING.values() if ranked else ()),
    ]
    return Table(caption, titles, rows)


def _risk(figures: Mapping[str, Any] | None, name: str) -> Cell:
    """A measure of risks with its interval; a dash where one outcome only occurs."""
    if not figures or figures.get(name) is None:
        return Cell(ABSENT)
    low, high = figures.get("ci95", {}).get(name, (None, None))
    return Cell(number(figures[name]), "" if low is None else f"{low:.3f} to {high:.3f}")


def calibrated(figures: Figures) -> dict[str, dict[str, list[Mapping[str, Any]]]]:
    """{task: {arm or baseline: its risks in tenths}}, of families that predict risks."""
    measured = {arm: figures.results["arms"][arm].get("measures", {}) for arm in figures.arms} | figures.results.get(
        "baselines", {}
    )
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for name, of_tasks in measured.items():
        for task, row in of_tasks.items():
            if bins := (row.get("risk") or {}).get("calibration"):
                found.setdefault(task, {})[name] = bins
    return found


def risks(figures: Figures) -> Table | None:
    """The figures behind the calibration curves of risks; None where none are predicted."""
    rows: Rows = [
        [task, arm_name(name), percent(tenth["risk"]), percent(tenth["observed"]), number(tenth["n"])]
        for task, curves in calibrated(figures).items()
        for name, bins in curves.items()
        for tenth in bins
    ]
    caption = "Calibration of risks: cases by tenths of the predicted risk, its mean, and how often it came true."
    return Table(caption, ["Task", "Arm", "Predicted", "Observed", "Cases"], rows) if rows else None


def transfer(figures: Figures) -> Table | None:
    """Every arm on further held-out cases, such as another task's; None where the recipe names none."""
    places = figures.results.get("transfer")
    if not places:
        return None
    rows: Rows = []
    for name, found in places.items():
        cells = [accuracy(found["arms"].get(arm)) for arm in figures.arms]
        rows.append([name, number(next(iter(found["arms"].values()))["n"]), *cells])
    caption = (
        f"The same arms on cases of other tasks or families that they were not trained on here, {figures.results['decoding']} decoding: "
        "share answered right, with 95 % intervals over patients."
    )
    return Table(caption, ["Transfer", "Cases", *map(arm_name, figures.arms)], rows)


def confusion(figures: Figures) -> list[Table]:
    """A table for every task and arm: how often each label was answered as which."""
    tables = []
    for arm in figures.arms:
        for task, row in figures.results["arms"][arm].get("measures", {}).items():
            rows: Rows = [
                [label, *_of_row(counts)] for label, counts in zip(row["labels"], row["confusion"], strict=True)
            ]
            caption = f"{task}, {arm_name(arm)}: truth by row, answer by column, with its share of the row."
            tables.append(Table(caption, ["Truth", *row["labels"], "malformed"], rows))
    return tables


def _of_row(counts: Sequence[int]) -> list[Cell]:
    return [Cell(number(count), percent(count / sum(counts)) if sum(counts) else "") for count in counts]
