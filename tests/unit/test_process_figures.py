"""The audit of a finished run: figures of every arm in results.json, a table on the page, and
nothing of a record in either.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ehrmind.config import Recipe
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.process_audit import PARTS
from ehrmind.report import write_report
from ehrmind.runs import Run
from ehrmind.runs.records import rollout_rows
from ehrmind.stages.evaluation.process import Auditor, process_figures
from ehrmind.types import Completion, Group, Prompt, Segment
from ehrmind.verify.judge import judge
from tests.medcalc_cases import SHORT
from tests.page_reader import Page
from tests.rollouts import rollout_row
from tests.run_folder import CANARY, finished_run, recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished_run(tmp_path_factory.mktemp("runs") / "audited", arms=("base", "sft_rlvr"), cases=70)


def results(run: Run) -> dict[str, Any]:
    return json.loads((run.path / "results.json").read_text(encoding="utf-8"))


def test_every_arm_has_each_parts_share_with_an_interval(run: Run) -> None:
    for row in results(run)["arms"].values():
        for name in PARTS:
            part = row["process"][name]
            assert 0 <= part["ci95"][0] <= part["share"] == part["passed"] / part["checked"] <= part["ci95"][1] <= 1
        assert row["process"]["right_but_flawed"]["n"] == row["correct"]
    assert CANARY not in json.dumps(results(run))


CURB = synthetic_cases(1, 3, "held_out", ["curb-65"], styles=["numbered"], difficulty="easy")[0]
GOOD = CURB.rationale or ""
BAD = GOOD.replace("CURB-65 score =", "CURB-65 score = 9 +", 1)


def answered(folder: Path, *thoughts: str) -> tuple[Run, Recipe, Auditor]:
    """A run whose base answers right, with these thoughts."""
    cases = {name: dataclasses.replace(CURB, id=name, group=name) for name in ("one", "two")}
    groups = []
    for held, thinking in zip(cases.values(), thoughts, strict=False):
        text = f'<think>{thinking}</think>\n<answer>{{"answer": {CURB.truth["value"]}}}</answer>'
        completion = Completion((Segment("assistant", (1,), (0.0,)),), "stop", text)
        groups.append(Group(held, Prompt((1,)), [completion], [judge(held, text)]))
    there = Run(folder)
    there.manifest.create()
    there.write_rollouts("evaluate-base-greedy", 0, rollout_rows("evaluate-base-greedy", "base", 0, groups))
    return there, recipe(0.0, arms=["base"]), Auditor(cases)


def test_a_right_answer_with_a_wrong_step_counts_as_flawed(tmp_path: Path) -> None:
    figures = process_figures([answered(tmp_path, GOOD, BAD)], "base")
    assert figures is not None
    flawed = figures.right_but_flawed
    assert flawed is not None and (flawed.n, flawed.flawed, flawed.per_seed) == (2, 1, ())
    assert figures.findings[0].part == "arithmetic"


def test_seeds_are_pooled_as_the_mean_of_their_shares(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    seeds = [answered(tmp_path / "0", GOOD, BAD), answered(tmp_path / "1", GOOD)]
    figures, *singles = (process_figures(of, "base") for of in (seeds, seeds[:1], seeds[1:]))
    assert figures is not None and figures.right_but_flawed is not None and figures.arithmetic is not None
    flawed = figures.right_but_flawed
    assert (flawed.n, flawed.flawed, flawed.per_seed, flawed.share) == (3, 1, (0.5, 0.0), 0.25)
    assert 0 <= flawed.ci95[0] < 0.25 < flawed.ci95[1]
    parts = [single.arithmetic for single in singles if single is not None and single.arithmetic is not None]
    assert figures.arithmetic.checked == sum(part.checked for part in parts) > parts[0].checked
    assert figures.arithmetic.per_seed == tuple(part.share for part in parts)


def test_no_arm_that_is_not_asked_to_think_is_audited(run: Run) -> None:
    silent = recipe(0.0, prompts={"think": False})
    assert process_figures([(run, silent, Auditor({}))], "base") is None


def test_numbers_that_a_tool_gave_are_grounded() -> None:
    case = synthetic_cases(1, 3, "held_out", **SHORT)[0]
    row, auditor = rollout_row(case=case.id, text="<think>The tool says 8765.25.</think>"), Auditor({case.id: case})
    assert auditor.audit(row).findings
    told = auditor.audit(dataclasses.replace(row, earlier="[8765.25]"))
    assert not [finding for finding in told.findings if finding.start is not None]


def test_the_page_shows_the_parts_of_every_arm_and_no_record(run: Run) -> None:
    (page,) = write_report(run.path)
    html = page.read_text(encoding="utf-8")
    assert CANARY not in html
    (audited,) = [rows for rows in Page(html).tables.values() if "Right, but flawed" in rows[0]]
    assert [row[0] for row in audited[1:]] == ["Base", "SFT + RLVR"]
    assert all("%" in cell for row in audited[1:] for cell in row[1:])
