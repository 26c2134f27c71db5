"""The page of several runs: every arm of each on every set of cases (train on one, test on all), what training gained there, and in what
the runs differ. It is shareable: figures and ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ehrmind.files import write_text
from ehrmind.report.compare import matrix
from ehrmind.report.formatting import (
    ABSENT,
    Cell,
    Table,
    accuracy,
    arm_name,
    interval,
    number,
    p_value,
    percent,
    points,
)
from ehrmind.report.page import without_folders
from ehrmind.report.reading import Figures, read_run
from ehrmind.report.rendering import render
from ehrmind.report.tables.overview import flattened, moment
from ehrmind.runs import Run
from ehrmind.types import InputError

Rows = list[list[str | Cell]]


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write the comparison of two or more finished runs into the file `out`. Raises InputError for fewer, for the same one twice, for one
    that is not finished, and where `out` cannot be a file."""
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise InputError("A comparison takes two or more run folders, each once; name another RUN.")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out} cannot be written; name a file in a folder that exists.")
    runs = [read_run(Run(folder)) for folder in folders]
    write_text(out, render("comparison.html", contents(folders, runs)))
    return out


def contents(folders: Sequence[Path], runs: Sequence[Figures]) -> dict[str, Any]:
    """Everything the template shows of a comparison."""
    found = matrix(folders)
    names = _names(found["rows"])
    labels = _labels(folders, runs)
    return {
        "count": len(runs),
        "summary": summary(found),
        "plots": _plots(found, names),
        "tables": {
            "matrix": _matrix(found, names),
            "gains": _gains(found, names),
            "runs": _runs(labels, runs),
            "differing": _differing(labels, runs),
        },
    }


def summary(found: Mapping[str, Any]) -> list[str]:
    """How much was laid side by side, the best arm of every set of cases, and what training gained at home and elsewhere."""
    tests, rows = found["tests"], found["rows"]
    said = [f"{len(rows)} arms on {len(tests)} {'set' if len(tests) == 1 else 'sets'} of cases."]
    for test in tests:
        there = [
            (name, row["cells"][test["digest"]])
            for name, row in zip(_names(rows), rows, strict=True)
            if test["digest"] in row["cells"]
        ]
        best, cell = max(there, key=lambda scored: scored[1]["accuracy"])
        others = sum(scored["accuracy"] == cell["accuracy"] for _, scored in there) - 1
        tied = f", as many as {others} other {'arm' if others == 1 else 'arms'}" if others else ""
        right = f"{best} answers {percent(cell['accuracy'])} right ({interval(cell['ci95'])}){tied}"
        said.append(f"{test['name']}: {right if cell['accuracy'] else 'no arm has a right answer'}.")
    for where, at_home in (("its own held-out cases", True), ("other sets of cases", False)):
        cells = [cell for row in rows for digest, cell in row["cells"].items() if (digest == row["own"]) == at_home]
        gains = [cell["gain"]["ci95"] for cell in cells if "gain" in cell]
        if gains:
            better, worse = sum(low > 0 for low, _ in gains), sum(high < 0 for _, high in gains)
            rest = len(gains) - better - worse
            said.append(
                f"Trained arms against their run's base on {where}: {better} better, {worse} worse, {rest} not told apart."
            )
    return said


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Run and arm of every row; where runs share a name, their folder too."""
    times = Counter(run for run, _ in {(row["run"], row["folder"]) for row in rows})
    runs = [f"{row['run']} ({row['folder']})" if times[row["run"]] > 1 else row["run"] for row in rows]
    return [f"{run}, {arm_name(row['arm'])}" for run, row in zip(runs, rows, strict=True)]


def _labels(folders: Sequence[Path], runs: Sequence[Figures]) -> list[str]:
    names = [figures.recipe.get("name", folder.name) for folder, figures in zip(folders, runs, strict=True)]
    return [
        f"{name} ({folder.name})" if names.count(name) > 1 else name
        for name, folder in zip(names, folders, strict=True)
    ]


def _plots(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    from ehrmind.report.plots.drawing import drawn
    from ehrmind.report.plots.heat import gain_field, heat, share_field

    tests, rows = found["tests"], found["rows"]
    digests, columns = [test["digest"] for test in tests], [test["name"] for test in tests]
    trained = [place for place, row in enumerate(rows) if _has_gain(row)]

    def own(places: Sequence[int]) -> list[tuple[int, int]]:
        return [(line, digests.index(rows[place]["own"])) for line, place in enumerate(places)]

    def shares(_: Mapping[str, Any]) -> Any:
        fields = [[share_field(row["cells"].get(digest)) for digest in digests] for row in rows]
        return heat(names, columns, fields, own(range(len(rows))))

    def gains(_: Mapping[str, Any]) -> Any:
        fields = [
            [gain_field(rows[place]["cells"].get(digest, {}).get("gain")) for digest in digests] for place in trained
        ]
        return heat([names[place] for place in trained], columns, fields, own(trained)) if trained else None

    return drawn(found, {"matrix": shares, "gains": gains})


def _has_gain(row: Mapping[str, Any]) -> bool:
    return any("gain" in cell for cell in row["cells"].values())


def _columns(found: Mapping[str, Any]) -> list[str]:
    return ["Run and arm", *(f"{test['name']} ({number(test['n'])} cases)" for test in found["tests"])]


def _matrix(found: Mapping[str, Any], names: Sequence[str]) -> Table:
    rows: Rows = []
    for name, row in zip(names, found["rows"], strict=True):
        cells = [(accuracy(row["cells"].get(test["digest"])), test["digest"] == row["own"]) for test in found["tests"]]
        rows.append([name, *(Cell(cell.text, f"{cell.note}; own" if own else cell.note) for cell, own in cells)])
    caption = (
        "Share answered right, with 95 % intervals over patients, each run's first decoding. Own: the run's own held-out cases; the others "
        "are of other tasks, or of other cases. Sets of cases are the same where their ids are."
    )
    return Table(caption, _columns(found), rows)


def _gains(found: Mapping[str, Any], names: Sequence[str]) -> Table | None:
    """What training changed against the same run's base; None where no run has both."""
    rows: Rows = [
        [name, *(_gain(row["cells"].get(test["digest"], {}).get("gain")) for test in found["tests"])]
        for name, row in zip(names, found["rows"], strict=True)
        if _has_gain(row)
    ]
    caption = "Difference from the same run's base on the same cases, in points, with 95 % intervals and p of each pair alone."
    return Table(caption, _columns(found), rows) if rows else None


def _gain(gain: Mapping[str, Any] | None) -> Cell:
    if gain is None:
        return Cell(ABSENT)
    low, high = gain["ci95"]
    tone = "good" if low > 0 else "warn" if high < 0 else ""
    return Cell(points(gain["difference"]), f"{interval([low, high])}; {p_value(gain['p'])}", tone)


def _runs(labels: Sequence[str], runs: Sequence[Figures]) -> Table:
    rows: Rows = []
    for label, figures in zip(labels, runs, strict=True):
        scorings, versions = figures.results.get("held_out_scorings", []), figures.provenance.get("versions", {})
        seeds = figures.results.get("seeds") or [figures.recipe.get("seed")]
        alarms = len(figures.results.get("alarms", []))
        rows.append(
            [
                label,
                figures.provenance.get("model", {}).get("name") or ABSENT,
                ", ".join(map(str, seeds)),
                number(next(iter(figures.results["arms"].values()))["n"]),
                figures.results.get("test_sets", {}).get("held_out", {}).get("digest", ABSENT)[:12],
                Cell(number(alarms), tone="warn" if alarms else ""),
                moment(max(scoring["time"] for scoring in scorings)) if scorings else ABSENT,
                versions.get("ehrmind") or ABSENT,
                str(figures.provenance.get("recipe_digest") or ABSENT)[:12],
            ]
        )
    titles = [
        "Run",
        "Base model",
        "Seed",
        "Held-out cases",
        "Their digest",
        "Alarms",
        "Finished",
        "ehrmind",
        "Recipe's digest",
    ]
    return Table("The runs. Each has a page of its own, report.html in its folder.", titles, rows)


def _differing(labels: Sequence[str], runs: Sequence[Figures]) -> Table | None:
    """The keys of the recipes that are not the same in all runs; None where all are."""
    recipes = [dict(flattened(without_folders({**figures.recipe, "name": None}))) for figures in runs]
    rows: Rows = [[key, *values] for key, values in _unlike(recipes)]
    return Table("What the recipes say otherwise, defaults written out.", ["Key", *labels], rows) if rows else None


def _unlike(recipes: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, list[str]]]:
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = [recipe.get(key, ABSENT) for recipe in recipes]
        if len(set(values)) > 1:
            yield key, values
