"""Tables of answers that are labels: measures, calibration of risks, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ehrmind.report.formatting import ABSENT, Cell, Rows, Table, arm_name, number, percent
from ehrmind.report.reading import Figures
from ehrmind.runs.records import LabelMeasures, RiskBin, RiskMeasures

MEASURES = ("Balanced accuracy", "Macro F1", "Cohen's κ", "Macro F1, balanced", "κ, balanced")
ANSWER_TOKENS = "answer_tokens"
RISK = ("AUROC", "AUPRC", "Brier")
RANKING = ("nDCG@10", "P@10", "R-precision", "MRR")


def measures(figures: Figures) -> Table | None:
    """The measures that label tasks report; None where the run has no such task."""
    found = [(task, arm, row) for arm in figures.arms for task, row in figures.results.arms[arm].measures.items()]
    baselines = figures.results.baselines
    found += [(task, name, row) for name, rows in baselines.items() for task, row in rows.items()]
    order = [*figures.arms, *baselines]
    if not found:
        return None
    ranked = any(row.ranking for _, _, row in found)
    risky = any(row.risk for _, _, row in found)
    rows: Rows = []
    for task, arm, row in sorted(found, key=lambda place: (place[0], order.index(place[1]))):
        found_here = (row.balanced_accuracy, row.macro_f1, row.kappa, row.balanced.macro_f1, row.balanced.kappa)
        cells: list[str | Cell] = [task, arm_name(arm), number(row.n), *map(number, found_here)]
        cells += _risk_cells(row.risk) if risky else []
        cells += _ranking_cells(row) if ranked else []
        rows.append(cells)
    caption = (
        f"Measures of labels at {figures.results.decoding} decoding: with labels as frequent as they are, then macro "
        "F1 and κ with every label weighted alike (accuracy is then balanced accuracy)."
    )
    if ranked:
        caption += (
            " Ranking: each patient's trials by the grade that the model expects, over the patients with an eligible "
            "trial; nDCG's gain is the grade, the others count eligible trials only."
        )
    if risky:
        caption += " The risk is the probability of any label but the first; intervals are a bootstrap over subjects."
    if (ranked or risky) and figures.results.probabilities not in (None, ANSWER_TOKENS):
        caption += f" Probabilities are shares of further answers to each question: {figures.results.probabilities}."
    titles = ["Task", "Arm", "Cases", *MEASURES, *(RISK if risky else ()), *(RANKING if ranked else ())]
    return Table(caption, titles, rows)


def _risk_cells(found: RiskMeasures | None) -> list[str | Cell]:
    """AUROC, AUPRC and Brier score with their intervals; a dash where only one outcome occurs."""
    if found is None:
        return [Cell(ABSENT)] * len(RISK)
    cells: list[str | Cell] = []
    for name, value in (("auroc", found.auroc), ("auprc", found.auprc), ("brier", found.brier)):
        bounds = found.ci95.get(name)
        cells.append(Cell(number(value), f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds and value is not None else ""))
    return cells


def _ranking_cells(row: LabelMeasures) -> list[str | Cell]:
    found = row.ranking
    if found is None:
        return [ABSENT] * len(RANKING)
    return [number(value) for value in (found.ndcg_at_10, found.p_at_10, found.r_precision, found.mrr)]


def calibrated(figures: Figures) -> dict[str, dict[str, Sequence[RiskBin]]]:
    """{task: {arm or baseline: its risks in tenths}} for the tasks that predict risks."""
    measured: dict[str, Mapping[str, LabelMeasures]] = {arm: figures.results.arms[arm].measures for arm in figures.arms}
    measured |= figures.results.baselines
    found: dict[str, dict[str, Sequence[RiskBin]]] = {}
    for name, by_task in measured.items():
        for task, row in by_task.items():
            if row.risk and row.risk.calibration:
                found.setdefault(task, {})[name] = row.risk.calibration
    return found


def risks(figures: Figures) -> Table | None:
    """The figures behind the calibration curves; None where no risks are predicted."""
    rows: Rows = [
        [task, arm_name(name), percent(tenth.risk), percent(tenth.observed), number(tenth.n)]
        for task, curves in calibrated(figures).items()
        for name, bins in curves.items()
        for tenth in bins
    ]
    caption = "Calibration of risks: cases by tenths of the predicted risk, its mean, and how often it came true."
    return Table(caption, ["Task", "Arm", "Predicted", "Observed", "Cases"], rows) if rows else None


def confusion(figures: Figures) -> list[Table]:
    """A table for every task and arm: how often each label was answered as which."""
    tables = []
    for arm in figures.arms:
        for task, row in figures.results.arms[arm].measures.items():
            rows: Rows = [
                [
                    label,
                    *(Cell(number(count), percent(count / sum(counts)) if sum(counts) else "") for count in counts),
                ]
                for label, counts in zip(row.labels, row.confusion, strict=True)
            ]
            caption = f"{task}, {arm_name(arm)}: truth by row, answer by column, with its share of the row."
            tables.append(Table(caption, ["Truth", *row.labels, "malformed"], rows))
    return tables
