"""`ehrmind compare`: runs that trained on one family each, joined on the sets of cases that both
were scored on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ehrmind.cli.app import app
from ehrmind.config import Recipe
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.report.compare import matrix
from ehrmind.runs import Run
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import InputError
from tests.evaluated_run import opened, plan, recipe
from tests.medcalc_cases import SHORT
from tests.stored import store

SUMS = {"synthetic": {"n": 12, "seed": 3, **SHORT, "tasks": ["maintenance-fluids"]}}
MATCHES = {"synthetic": {"family": "trials", "n": 10, "seed": 3, "difficulty": "easy"}}


def trained_on(name: str, own: dict[str, Any], other: dict[str, Any]) -> Recipe:
    train = {"synthetic": {**own["synthetic"], "seed": 9}}
    data = {"train": train, "held_out": own, "transfer": {"another": other}}
    return recipe(name=name, data=data, arms=["base"], evaluate={"decodings": ["greedy"]})


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    ScriptedEngine(plan).save(tmp_path / "base")
    recipes = {"sums": trained_on("sums", SUMS, MATCHES), "matches": trained_on("matches", MATCHES, SUMS)}
    return [
        run_pipeline(
            chosen, tmp_path / name, stages=("evaluate",), open_engine=opened, locate=lambda _: tmp_path / "base"
        )
        for name, chosen in recipes.items()
    ]


def test_every_arm_stands_on_every_set_of_cases_and_its_own_is_marked(runs: list[Run]) -> None:
    found = matrix([run.path for run in runs])
    assert [(test.families, test.n) for test in found.tests] == [(("medcalc",), 12), (("trials",), 10)]
    assert [row.run for row in found.rows] == ["sums", "matches"]
    first, second = (test.digest for test in found.tests)
    assert [row.own for row in found.rows] == [first, second]
    for row, run in zip(found.rows, runs, strict=True):
        results = json.loads((run.path / "results.json").read_text())
        transfer = results["transfer"]["another"]["arms"]["base"]
        other = second if row.own == first else first
        assert row.cells[row.own].accuracy == results["arms"]["base"]["accuracy"]
        assert row.cells[other].to_dict() == {key: transfer[key] for key in ("n", "accuracy")} | {
            "ci95": tuple(transfer["ci95"])
        }
    assert len({test.name for test in found.tests}) == 2, "two sets of cases have two names"


def test_the_command_prints_the_matrix_and_writes_it(runs: list[Run], tmp_path: Path) -> None:
    told = CliRunner().invoke(
        app, ["compare", *(str(run.path) for run in runs), "--json", str(tmp_path / "matrix.json")]
    )
    assert told.exit_code == 0 and told.stdout.count("[") >= 3 and "(n 12)" in told.stdout and "matches" in told.stdout
    assert json.loads((tmp_path / "matrix.json").read_text())["rows"][1]["run"] == "matches"


def test_runs_of_other_cases_share_no_column(runs: list[Run]) -> None:
    file = runs[1].path / "results.json"
    other = json.loads(file.read_text())
    for place in other["test_sets"].values():
        place["digest"] = place["digest"][::-1]
    store(file, json.dumps(other))
    found = matrix([run.path for run in runs])
    assert len(found.tests) == 4 and all(len(row.cells) == 2 for row in found.rows)


def test_a_run_of_an_older_version_is_refused_by_name_and_the_others_are_compared(runs: list[Run]) -> None:
    file = runs[1].path / "results.json"
    older = json.loads(file.read_text())
    del older["schema_version"]
    store(file, json.dumps(older))
    found = matrix([run.path for run in runs])
    assert [row.run for row in found.rows] == ["sums"]
    assert len(found.unread) == 1 and str(file) in found.unread[0] and "schema version" in found.unread[0]


def test_a_folder_that_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run folder"):
        matrix([tmp_path])
