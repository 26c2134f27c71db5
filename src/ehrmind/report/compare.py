"""Several finished runs side by side: every arm of every run on every set of cases that any of them was scored on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ehrmind.report.reading import Figures, read_run
from ehrmind.runs import Run
from ehrmind.types import InputError


def matrix(folders: Sequence[Path]) -> dict[str, Any]:
    """`tests`: the sets of cases, each known by the digest of its ids; `rows`: a run's arm with its figures by digest, and in `gain` its
    difference from the run's own base on the same cases; `unread`: why other folders could not be read. `own` marks the run's own
    held-out cases, so that what stands beside them is another task. Raises InputError where no folder is a finished run."""
    tests: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    trained_for: dict[str, str] = {}
    unread: list[str] = []
    for folder, figures in _read(folders, unread):
        name, results = figures.recipe.get("name", folder.name), figures.results
        places = {
            "held_out": results["arms"],
            **{place: found["arms"] for place, found in results.get("transfer", {}).items()},
        }
        pairs = {
            "held_out": results["pairs"],
            **{place: found.get("pairs", {}) for place, found in results.get("transfer", {}).items()},
        }
        found = {place: _test(results, folder, place, arms) for place, arms in places.items()}
        for place, test in found.items():
            known = tests.setdefault(test["digest"], {**test, "name": ""})
            if place != "held_out":
                known["name"] = known["name"] or place
            else:
                trained_for.setdefault(test["digest"], f"{name}: held-out")
        for arm in results["arms"]:
            cells = {
                found[place]["digest"]: {
                    **{key: arms[arm][key] for key in ("n", "accuracy", "ci95")},
                    **_gain(pairs[place], arm),
                }
                for place, arms in places.items()
                if arm in arms
            }
            rows.append(
                {"run": name, "folder": folder.name, "arm": arm, "own": found["held_out"]["digest"], "cells": cells}
            )
    _name(tests, trained_for)
    return {"decoding": "each run's first", "tests": list(tests.values()), "rows": rows, "unread": unread}


def _read(folders: Sequence[Path], unread: list[str]) -> Iterator[tuple[Path, Figures]]:
    """The runs that can be read; what is wrong with the others is added to `unread`. Raises InputError where there is no other."""
    for folder in folders:
        try:
            figures = read_run(Run(folder))
            _refuse_other_shape(figures, folder)
        except InputError as error:
            unread.append(str(error))
            if len(unread) == len(folders):
                raise
            continue
        yield folder, figures


def _refuse_other_shape(figures: Figures, folder: Path) -> None:
    """Raises InputError where what is compared is not in the results."""
    try:
        for found in (figures.results, *figures.results.get("transfer", {}).values()):
            for row in found["arms"].values():
                low, high = row["ci95"]
                float(row["accuracy"]), int(row["n"]), float(low), float(high)
            for pair in found.get("pairs", {}).values():
                float(pair["difference"]), pair["ci95"], pair["p"]
        figures.results["pairs"].items()
        next(iter(figures.results["arms"]))
        figures.recipe.get("name")
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration):
        raise InputError(
            f"{folder / 'results.json'} is not of the form that this version writes; run its recipe again."
        ) from None


def _name(tests: Mapping[str, dict[str, Any]], trained_for: Mapping[str, str]) -> None:
    """By the name that a recipe gave them elsewhere, or where that is none or another set's too, by the run that was trained for them."""
    times = Counter(test["name"] for test in tests.values())
    for digest, test in tests.items():
        if not test["name"] or (times[test["name"]] > 1 and digest in trained_for):
            test["name"] = trained_for[digest]
    times = Counter(test["name"] for test in tests.values())
    for digest, test in tests.items():
        if times[test["name"]] > 1:  # other cases under one name are another column
            test["name"] += f" ({digest[:6]})"


def _gain(pairs: Mapping[str, Any], arm: str) -> dict[str, Any]:
    pair = pairs.get(f"{arm}-base")
    return {"gain": {key: pair[key] for key in ("difference", "ci95", "p")}} if pair else {}


def _test(results: Mapping[str, Any], folder: Path, place: str, arms: Mapping[str, Any]) -> dict[str, Any]:
    """What results.json says of a set of cases; one of an older run is a set of its own."""
    named = results.get("test_sets", {}).get(place)
    return (
        dict(named)
        if named
        else {"n": next(iter(arms.values()))["n"], "families": [], "digest": f"{folder.name}/{place}"}
    )
