"""Command line: prints what a run found as tables on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ehrmind.printable import printable

if TYPE_CHECKING:
    from ehrmind.runs import Run


def show_pilot(run: Run) -> None:
    """Prints pass@1 and pass@k by stratum, and where reinforcement alone has nothing to work
    with."""
    found = _read(run, "pilot.json")
    if found is None:
        return
    k = found["samples"]
    table = _table(
        "pilot of the base model", "stratum", "n", "pass@1", f"pass@{k}", "reliable", "format", "knowledge", "fails at"
    )
    for stratum, row in [*found["by_stratum"].items(), ("overall", found["overall"])]:
        pass_at = (_percent(row["pass@1"], row["pass@1_ci95"]), _percent(row["pass@k"], row["pass@k_ci95"]))
        says = (row.get("kind", ""), row.get("cause") or ("not found" if "cause" in row else ""))
        _add(
            table,
            stratum,
            str(row["questions"]),
            *pass_at,
            f"{row['reliable@k']:.0%}",
            f"{row['format_rate']:.0%}",
            *says,
        )
    _print(table)
    if any(row["kind"] == "missing" for row in found["by_stratum"].values()):
        _print(
            "Where hardly a question is solved beyond chance, knowledge is missing: RLVR alone has nothing to "
            "reinforce there."
        )


def show_results(run: Run) -> None:
    """Prints every arm's accuracy and every paired difference, with 95 % intervals."""
    found = _read(run, "results.json")
    if found is None:
        return
    arms = _table(
        f"held-out cases, {found['decoding']} decoding, {found['scorer']} scorer",
        "arm",
        "n",
        "accuracy",
        "95 %",
        "not parsed",
    )
    for arm, row in found["arms"].items():
        _add(arms, arm, str(row["n"]), f"{row['accuracy']:.1%}", _interval(row["ci95"]), str(row["unparsed"]))
    _print(arms)
    for name, place in found.get("transfer", {}).items():
        table = _table(f"transfer: {name}", "arm", "n", "accuracy", "95 %")
        for arm, row in place["arms"].items():
            _add(table, arm, str(row["n"]), f"{row['accuracy']:.1%}", _interval(row["ci95"]))
        _print(table)
    _show_measures(found)
    pairs = _table("paired differences (adjusted: Holm)", "pair", "points", "95 %", "p", "adjusted p")
    for pair, row in found["pairs"].items():
        p_values = (f"{row[key]:.2g}" if key in row else "-" for key in ("p", "p_holm"))
        _add(pairs, pair.replace("-", " − "), f"{100 * row['difference']:+.1f}", _interval(row["ci95"]), *p_values)
    if found["pairs"]:
        _print(pairs)
    from ehrmind.report.tables.evaluation import sentences

    for sentence in sentences(found):
        _print(sentence)


def show_matrix(found: Mapping[str, Any]) -> None:
    """Prints runs and arms as rows and sets of cases as columns. A run's own held-out cases are in
    brackets."""
    tests = (f"{test['name']} (n {test['n']})" for test in found["tests"])
    table = _table("share right, with 95 % intervals; [own held-out cases]", "run", "arm", *tests)
    for row in found["rows"]:
        cells = {digest: f"{cell['accuracy']:.1%} ({_interval(cell['ci95'])})" for digest, cell in row["cells"].items()}
        cells[row["own"]] = f"[{cells[row['own']]}]"
        _add(table, row["run"], row["arm"], *(cells.get(test["digest"], "-") for test in found["tests"]))
    _print(table)


def _show_measures(found: Mapping[str, Any]) -> None:
    """Prints the measures of families whose answers are labels."""
    names = {"balanced_accuracy": "balanced acc.", "macro_f1": "macro F1", "kappa": "kappa"}
    origin = f", probabilities from {found['probabilities']}" if "probabilities" in found else ""
    table = _table(f"measures of labels{origin}", "task", "arm", *names.values(), "nDCG@10", "P@10")
    rows = {arm: row.get("measures", {}) for arm, row in found["arms"].items()} | found.get("baselines", {})
    for arm, measured in rows.items():
        for task, figures in measured.items():
            ranks = figures.get("ranking") or {}
            ranking = (f"{ranks[name]:.3f}" if name in ranks else "-" for name in ("ndcg@10", "p@10"))
            _add(table, task, arm, *(f"{figures[name]:.3f}" for name in names), *ranking)
    if table.row_count:
        _print(table)


def _read(run: Run, name: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = run.read_json(name)
    return found


def _table(title: str, *columns: str) -> Table:
    table = Table(title=printable(title), title_justify="left", box=SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(printable(column), justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    return table


def _percent(share: float, interval: list[float]) -> str:
    return f"{share:.0%} ({100 * interval[0]:.0f} to {100 * interval[1]:.0f})"


def _interval(bounds: list[float]) -> str:
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
