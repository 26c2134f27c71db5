"""The page of several runs: every arm on every set of cases, gains, and how the runs differ.

It can be shared: it holds figures and ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ehrmind.files import write_text
from ehrmind.report.compare import Gain, Matrix, MatrixRow, matrix
from ehrmind.report.formatting import (
    ABSENT,
    Cell,
    Rows,
    Table,
    accuracy,
    arm_name,
    interval,
    moment,
    number,
    p_value,
    percent,
    points,
)
from ehrmind.report.plots.drawing import drawn
from ehrmind.report.plots.heat import gain_field, heat, share_field
from ehrmind.report.reading import Figures, read_run
from ehrmind.report.rendering import render
from ehrmind.report.shareable import shareable
from ehrmind.report.tables.provenance import flattened
from ehrmind.runs import Run
from ehrmind.types import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ComparisonPage:
    """Everything that the template shows of a comparison."""

    count: int
    summary: list[str]
    plots: dict[str, str]
    tables: dict[str, Table | None]


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Writes the comparison of two or more finished runs into the file `out`.

    Raises InputError for fewer runs, for the same run twice, for an unfinished run, and where `out`
    cannot be a file.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise InputError("A comparison takes two or more run folders, each once; name another RUN.")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out} cannot be written; name a file in a folder that exists.")
    runs = [read_run(Run(folder)) for folder in folders]
    write_text(out, render("comparison.html", contents(folders, runs)))
    return out


def contents(folders: Sequence[Path], runs: Sequence[Figures]) -> ComparisonPage:
    found = matrix(folders)
    names, labels = _row_names(found.rows), _run_names(folders, runs)
    return ComparisonPage(
        count=len(runs),
        summary=summary(found),
        plots=_plots(found, names),
        tables={
            "matrix": _shares(found, names),
            "gains": _gains(found, names),
            "runs": _runs(labels, runs),
            "differing": _differing(labels, runs),
        },
    )


def summary(found: Matrix) -> list[str]:
    """The number of arms and sets, the best arm on every set, and the gains of training."""
    sentences = [f"{len(found.rows)} arms on {len(found.tests)} {'set' if len(found.tests) == 1 else 'sets'} of cases."]
    named = list(zip(_row_names(found.rows), found.rows, strict=True))
    for test in found.tests:
        there = [(name, row.cells[test.digest]) for name, row in named if test.digest in row.cells]
        best, cell = max(there, key=lambda scored: scored[1].accuracy)
        others = sum(scored.accuracy == cell.accuracy for _, scored in there) - 1
        tied = f", as many as {others} other {'arm' if others == 1 else 'arms'}" if others else ""
        right = f"{best} answers {percent(cell.accuracy)} right ({interval(cell.ci95)}){tied}"
        sentences.append(f"{test.name}: {right if cell.accuracy else 'no arm has a right answer'}.")
    for where, at_home in (("its own held-out cases", True), ("other sets of cases", False)):
        cells = [cell for row in found.rows for digest, cell in row.cells.items() if (digest == row.own) == at_home]
        bounds = [cell.gain.ci95 for cell in cells if cell.gain is not None]
        if bounds:
            better, worse = sum(low > 0 for low, _ in bounds), sum(high < 0 for _, high in bounds)
            counts = f"{better} better, {worse} worse, {len(bounds) - better - worse} without a clear difference"
            sentences.append(f"Trained arms against their run's base on {where}: {counts}.")
    return sentences


def _row_names(rows: Sequence[MatrixRow]) -> list[str]:
    """The run and arm of every row, with the folder where runs share a name."""
    times = Counter(run for run, _ in {(row.run, row.folder) for row in rows})
    return [f"{f'{row.run} ({row.folder})' if times[row.run] > 1 else row.run}, {arm_name(row.arm)}" for row in rows]


def _run_names(folders: Sequence[Path], runs: Sequence[Figures]) -> list[str]:
    names = [figures.recipe.name for figures in runs]
    return [
        f"{name} ({folder.name})" if names.count(name) > 1 else name
        for name, folder in zip(names, folders, strict=True)
    ]


def _plots(found: Matrix, names: Sequence[str]) -> dict[str, str]:
    digests, columns = [test.digest for test in found.tests], [test.name for test in found.tests]

    def shares(_: Matrix) -> Figure:
        fields = [[share_field(row.cells.get(digest)) for digest in digests] for row in found.rows]
        return heat(names, columns, fields, [(line, digests.index(row.own)) for line, row in enumerate(found.rows)])

    def gains(_: Matrix) -> Figure | None:
        trained = [(name, row) for name, row in zip(names, found.rows, strict=True) if _has_gain(row)]
        fields = [[gain_field(_gain_of(row, digest)) for digest in digests] for _, row in trained]
        own = [(line, digests.index(row.own)) for line, (_, row) in enumerate(trained)]
        return heat([name for name, _ in trained], columns, fields, own) if trained else None

    return drawn(found, {"matrix": shares, "gains": gains})


def _gain_of(row: MatrixRow, digest: str) -> Gain | None:
    return row.cells[digest].gain if digest in row.cells else None


def _has_gain(row: MatrixRow) -> bool:
    return any(cell.gain is not None for cell in row.cells.values())


def _columns(found: Matrix) -> list[str]:
    return ["Run and arm", *(f"{test.name} ({number(test.n)} cases)" for test in found.tests)]


def _shares(found: Matrix, names: Sequence[str]) -> Table:
    rows: Rows = []
    for name, row in zip(names, found.rows, strict=True):
        cells = [(accuracy(row.cells.get(test.digest)), test.digest == row.own) for test in found.tests]
        rows.append([name, *(Cell(cell.text, f"{cell.note}; own" if own else cell.note) for cell, own in cells)])
    caption = (
        "Share answered right, with 95 % intervals over patients, each run's first decoding. Own: the run's own "
        "held-out cases; the others are other tasks or other cases. Sets of cases are the same where their ids are."
    )
    return Table(caption, _columns(found), rows)


def _gains(found: Matrix, names: Sequence[str]) -> Table | None:
    """The gain of each trained arm over its run's base; None where no run has both."""
    rows: Rows = [
        [name, *(_gain_cell(_gain_of(row, test.digest)) for test in found.tests)]
        for name, row in zip(names, found.rows, strict=True)
        if _has_gain(row)
    ]
    caption = (
        "Difference from the same run's base on the same cases, in points, with 95 % intervals and p of each pair "
        "alone."
    )
    return Table(caption, _columns(found), rows) if rows else None


def _gain_cell(gain: Gain | None) -> Cell:
    if gain is None:
        return Cell(ABSENT)
    low, high = gain.ci95
    tone = "good" if low > 0 else "warn" if high < 0 else ""
    return Cell(points(gain.difference), f"{interval(gain.ci95)}; {p_value(gain.p)}", tone)


def _runs(names: Sequence[str], runs: Sequence[Figures]) -> Table:
    rows: Rows = []
    for name, figures in zip(names, runs, strict=True):
        results, provenance = figures.results, figures.provenance
        times = [scoring.time for scoring in results.held_out_scorings]
        rows.append(
            [
                name,
                (provenance and provenance.model.name) or ABSENT,
                ", ".join(map(str, results.seeds or [figures.recipe.seed])),
                number(results.arms[figures.arms[0]].n),
                results.test_sets["held_out"].digest[:12],
                Cell(number(len(results.alarms)), tone="warn" if results.alarms else ""),
                moment(max(times)) if times else ABSENT,
                (provenance and provenance.versions.get("ehrmind")) or ABSENT,
                (provenance and provenance.recipe_digest[:12]) or ABSENT,
            ]
        )
    caption = "The runs. Each has a page of its own, report.html in its folder."
    titles = ["Run", "Base model", "Seed", "Held-out cases", "Digest of the cases", "Alarms", "Finished", "ehrmind"]
    return Table(caption, [*titles, "Digest of the recipe"], rows)


def _differing(names: Sequence[str], runs: Sequence[Figures]) -> Table | None:
    """The recipe keys whose values differ between runs; None where all agree."""
    recipes = [dict(flattened({**shareable(figures.recipe), "name": None})) for figures in runs]
    rows: Rows = [[key, *values] for key, values in _unlike(recipes)]
    return Table("The recipe keys that differ, with defaults written out.", ["Key", *names], rows) if rows else None


def _unlike(recipes: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, list[str]]]:
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = [recipe.get(key, ABSENT) for recipe in recipes]
        if len(set(values)) > 1:
            yield key, values
