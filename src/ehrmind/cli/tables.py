"""Command line: prints the figures of a run as tables on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ehrmind.printable import printable

if TYPE_CHECKING:
    from ehrmind.report.compare import Matrix
    from ehrmind.runs import Run
    from ehrmind.runs.records import PilotFigures, Results
    from ehrmind.runs.records.results import Comparison

C = TypeVar("C", bound="Comparison")


def show_pilot(run: Run) -> None:
    """Prints pass@1 and pass@k by stratum, and where RLVR alone has nothing to reinforce."""
    from ehrmind.runs.records import Diagnosis

    found = run.read_record("pilot.json", Diagnosis)
    if found is None:
        return
    titles = ("stratum", "n", "pass@1", f"pass@{found.samples}", "reliable", "format", "knowledge", "fails at")
    table = _table("pilot of the base model", *titles)
    for stratum, row in found.by_stratum.items():
        _add(
            table,
            stratum,
            *_pilot_cells(row),
            row.kind,
            row.cause or ("not found" if "cause" in row.model_fields_set else ""),
        )
    if found.overall is not None:
        _add(table, "overall", *_pilot_cells(found.overall), "", "")
    _print(table)
    if found.strata("missing"):
        _print(
            "Where hardly a question is solved beyond chance, knowledge is missing: RLVR alone has nothing to "
            "reinforce there."
        )


def show_plan(run: Run) -> bool:
    """Prints the plan that follows from the pilot: its reasons, and what to train. False if there
    is none."""
    from ehrmind.report.tables.pilot import plan_sentences
    from ehrmind.runs.records import Plan

    plan = run.read_record("plan.json", Plan)
    if plan is None:
        return False
    *because, train = plan_sentences(plan)
    _print("plan: " + " ".join(because))
    _print(train)
    return True


def _pilot_cells(row: PilotFigures) -> list[str]:
    shares = [_percent(row.pass_at_1, row.pass_at_1_ci95), _percent(row.pass_at_k, row.pass_at_k_ci95)]
    return [str(row.questions), *shares, f"{row.reliable_at_k:.0%}", f"{row.format_rate:.0%}"]


def show_results(run: Run) -> None:
    """Prints every arm's accuracy and every paired difference, with 95 % intervals."""
    from ehrmind.report.tables.contamination import contamination_sentence
    from ehrmind.report.tables.forgetting import forgetting_sentence
    from ehrmind.runs.records import Provenance, Results

    found = run.read_record("results.json", Results)
    if found is None:
        return
    provenance = run.read_record("provenance.json", Provenance)
    if list(found.arms) == ["base"] and provenance is not None:
        found = _called(found, provenance.model.name)
    title = f"held-out cases, {found.decoding} decoding, {found.scorer} scorer"
    arms = _table(title, "arm", "n", "accuracy", "95 %", "not parsed")
    for arm, row in found.arms.items():
        _add(arms, arm, str(row.n), f"{row.accuracy:.1%}", _interval(row.ci95), str(row.unparsed))
    _print(arms)
    _show_baselines(found)
    for name, place in found.transfer.items():
        table = _table(f"transfer: {name}", "arm", "n", "accuracy", "95 %")
        for arm, row in place.arms.items():
            _add(table, arm, str(row.n), f"{row.accuracy:.1%}", _interval(row.ci95))
        _print(table)
    _show_measures(found)
    pairs = _table("paired differences (adjusted: Holm)", "pair", "points", "95 %", "p", "adjusted p")
    for name, pair in found.pairs.items():
        p_values = ("-" if p is None else f"{p:.2g}" for p in (pair.p, pair.p_holm))
        _add(pairs, name.replace("-", " − "), f"{100 * pair.difference:+.1f}", _interval(pair.ci95), *p_values)
    if found.pairs:
        _print(pairs)
    for sentence in (*contamination_sentence(found.contamination), *forgetting_sentence(found)):
        _print(sentence)


def _called(found: Results, name: str) -> Results:
    """Calls the only arm by its model's name. In results.json it stays `base`."""

    def renamed(comparison: C) -> C:
        baselines = {
            baseline: row.model_copy(update={"differences": {name: row.differences["base"]}})
            for baseline, row in comparison.baseline_accuracy.items()
        }
        return comparison.model_copy(update={"arms": {name: comparison.arms["base"]}, "baseline_accuracy": baselines})

    return renamed(found.model_copy(update={"transfer": {set_: renamed(of) for set_, of in found.transfer.items()}}))


def show_matrix(found: Matrix) -> None:
    """Prints runs and arms as rows and sets of cases as columns. A run's own held-out cases are in
    brackets."""
    tests = (f"{test.name} (n {test.n})" for test in found.tests)
    table = _table("share right, with 95 % intervals; [own held-out cases]", "run", "arm", *tests)
    for row in found.rows:
        cells = {digest: f"{cell.accuracy:.1%} ({_interval(cell.ci95)})" for digest, cell in row.cells.items()}
        cells[row.own] = f"[{cells[row.own]}]"
        _add(table, row.run, row.arm, *(cells.get(test.digest, "-") for test in found.tests))
    _print(table)


def _show_baselines(found: Results) -> None:
    """Prints the accuracy of the baselines, and the differences of the arms to them in points."""
    baselines = found.baseline_accuracy
    if not baselines:
        return
    arms = [f"{arm} − baseline" for arm in found.arms]
    table = _table("baselines; differences in points", "baseline", "n", "no answer", "accuracy", *arms)
    for name, row in baselines.items():
        pairs = (row.differences.get(arm) for arm in found.arms)
        cells = ("-" if pair is None else f"{100 * pair.difference:+.1f} ({_interval(pair.ci95)})" for pair in pairs)
        accuracy = f"{row.accuracy:.1%} ({_interval(row.ci95)})"
        _add(table, name, str(row.n), str(row.unanswered), accuracy, *cells)
    _print(table)


def _show_measures(found: Results) -> None:
    """Prints the measures of tasks whose answers are labels. A measure that no task has takes no
    column."""
    measured = {arm: row.measures for arm, row in found.arms.items()} | dict(found.baselines)
    rows = [(task, arm, row) for arm, by_task in measured.items() for task, row in by_task.items()]
    columns: dict[str, list[float | None]] = {
        "balanced acc.": [row.balanced_accuracy for *_, row in rows],
        "macro F1": [row.macro_f1 for *_, row in rows],
        "kappa": [row.kappa for *_, row in rows],
        "AUROC": [None if row.risk is None else row.risk.auroc for *_, row in rows],
        "AUPRC": [None if row.risk is None else row.risk.auprc for *_, row in rows],
        "nDCG@10": [None if row.ranking is None else row.ranking.ndcg_at_10 for *_, row in rows],
        "P@10": [None if row.ranking is None else row.ranking.p_at_10 for *_, row in rows],
    }
    shown = {title: values for title, values in columns.items() if any(value is not None for value in values)}
    if not shown:
        return
    origin = f", probabilities from {found.probabilities}" if found.probabilities else ""
    table = _table(f"measures of labels{origin}", "task", "arm", *shown)
    for place, (task, arm, _) in enumerate(rows):
        _add(table, task, arm, *("-" if (value := of[place]) is None else f"{value:.3f}" for of in shown.values()))
    _print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=printable(title), title_justify="left", box=SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(printable(column), justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    return table


def _percent(share: float, interval: Sequence[float]) -> str:
    return f"{share:.0%} ({100 * interval[0]:.0f} to {100 * interval[1]:.0f})"


def _interval(bounds: Sequence[float]) -> str:
    low, high = bounds
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _add(table: Table, *cells: str) -> None:
    """Adds a row. Its names come from recipes and files, so they are made printable."""
    table.add_row(*map(printable, cells))


def _print(shown: Table | str) -> None:
    """Prints to a terminal's width, or 160 columns into a file or pipe, where rich would cut at
    80."""
    shown = printable(shown) if isinstance(shown, str) else shown
    width = None if sys.stdout.isatty() else 160
    Console(markup=False, highlight=False, width=width).print(shown)
