"""report: the page that lays runs side by side, and what the page of one run says of cases
elsewhere, cost, licences and deviations.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from page_reader import Page
from typer.testing import CliRunner

from ehrmind.cli.app import app
from ehrmind.config import parse_recipe
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.report import write_comparison, write_report
from ehrmind.report.formatting import Table
from ehrmind.report.plots.heat import heat
from ehrmind.report.plots.run_plots import run_plots
from ehrmind.report.reading import read_run
from ehrmind.report.tables import deviations, labels, licences
from ehrmind.runs import Run
from ehrmind.runs.records import Results
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import InputError
from tests.evaluated_run import opened, plan, recipe
from tests.medcalc_cases import SHORT

SUMS: dict[str, Any] = {"synthetic": {"n": 12, "seed": 3, **SHORT, "tasks": ["maintenance-fluids"]}}
MATCHES: dict[str, Any] = {"synthetic": {"family": "trials", "n": 10, "seed": 3, "difficulty": "easy"}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """One run trained on sums and one on matching, each scored on both."""
    folder = tmp_path_factory.mktemp("compared")
    ScriptedEngine(plan).save(folder / "base")
    made = []
    for name, own, other in (("sums", SUMS, MATCHES), ("matches", MATCHES, SUMS)):
        data = {
            "train": {"synthetic": {**own["synthetic"], "seed": 9}},
            "held_out": own,
            "transfer": {"another": other},
        }
        chosen = recipe(name=name, data=data, evaluate={"decodings": ["greedy"]})
        made.append(run_pipeline(chosen, folder / name, open_engine=opened, locate=lambda _: folder / "base"))
    return made


@pytest.fixture(scope="module")
def html(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "comparison.html"
    assert write_comparison([run.path for run in runs], out) == out
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture(scope="module")
def single(runs: list[Run]) -> Page:
    return Page(write_report(runs[1].path)[0].read_text(encoding="utf-8"))


def results(run: Run) -> Any:
    return json.loads((run.path / "results.json").read_text())


def test_every_arm_of_every_run_stands_on_every_set_of_cases_and_its_own_is_marked(runs: list[Run], page: Page) -> None:
    header, *rows = page.table("Share answered right")
    assert [row[0] for row in rows] == ["sums, Base", "sums, RLVR only", "matches, Base", "matches, RLVR only"]
    assert header[1:] == ["sums: held-out (12 cases)", "matches: held-out (10 cases)"], (
        "both call the other's cases alike"
    )
    own, transfer = results(runs[0])["arms"]["rlvr"], results(runs[0])["transfer"]["another"]["arms"]["rlvr"]
    for cell, figure, mark in ((rows[1][1], own, "; own"), (rows[1][2], transfer, "")):
        low, high = figure["ci95"]
        assert cell == f"{100 * figure['accuracy']:.1f}\u00a0% {100 * low:.1f} to {100 * high:.1f}{mark}"
    assert rows[3][2].endswith("; own") and not rows[3][1].endswith("; own")


def test_gains_are_those_over_the_same_runs_base(runs: list[Run], page: Page) -> None:
    rows = {row[0]: row[1:] for row in page.table("Difference from the same run's base")[1:]}
    assert rows.keys() == {"sums, RLVR only", "matches, RLVR only"}
    pair = results(runs[0])["pairs"]["rlvr-base"]
    assert rows["sums, RLVR only"][0].startswith(f"{100 * pair['difference']:+.1f} ")


def test_the_sentences_say_which_arm_is_best_and_what_training_changed(page: Page) -> None:
    assert (
        "4 arms on 2 sets of cases." in page.text
        and "sums: held-out: sums, RLVR only answers 100.0\u00a0% right" in page.text
    )
    assert re.search(r"on its own held-out cases: \d better, \d worse, \d without a clear difference", page.text)


def test_the_comparison_stands_alone_and_can_be_read_by_ear(html: str, page: Page) -> None:
    assert all(address.startswith(("#", "data:,")) for address in page.addresses) and "script" not in page.tags
    policy = next(
        given["content"] for _, given in page.attributes if given.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and "default-src 'none'" in policy and "script-src 'none'" in policy
    assert ("html", {"lang": "en"}) in page.attributes and page.headers_without_scope == 0 and "" not in page.tables
    pictures = [given for _, given in page.attributes if given.get("role") == "img"]
    assert len(pictures) == page.tags.count("svg") == 2 and all(given["aria-label"] for given in pictures)
    targets = {address[1:] for address in page.addresses if address.startswith("#") and len(address) > 1}
    assert targets <= set(page.ids) and {"header", "nav", "main"} <= set(page.tags)


def test_the_comparison_holds_no_text_of_records(runs: list[Run], html: str) -> None:
    for run in runs:
        for cases in run.load_cases().values():
            assert all(text not in html for case in cases for text in case.fields.values() if len(text) > 20)


def test_what_the_recipes_say_otherwise_is_listed_without_folders(runs: list[Run], page: Page) -> None:
    header, *rows = page.table("The recipe keys that differ")
    assert header == ["Key", "sums", "matches"]
    keys = {row[0]: row[1:] for row in rows}
    assert keys["data.held_out.synthetic.n"] == ["12", "10"] and "rlvr.steps" not in keys and "name" not in keys
    assert str(runs[0].path.parent) not in page.text


def test_runs_of_one_name_are_told_apart_by_their_folders(runs: list[Run], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(runs[0].path, tmp_path / "again")
    shown = Page(write_comparison([runs[0].path, tmp_path / "again"], tmp_path / "page.html").read_text())
    assert [row[0] for row in shown.table("Share answered right")[1::2]] == ["sums (sums), Base", "sums (again), Base"]
    assert "Their recipes say the same." in shown.text


def test_what_is_no_comparison_is_refused_and_nothing_is_written(runs: list[Run], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    for folders in ([runs[0].path], [runs[0].path, runs[0].path]):
        with pytest.raises(InputError, match="two or more run folders, each once"):
            write_comparison(folders, out)
    with pytest.raises(InputError, match="no run folder"):
        write_comparison([runs[0].path, tmp_path], out)
    for where in (tmp_path, tmp_path / "absent" / "page.html"):
        with pytest.raises(InputError, match="cannot be written"):
            write_comparison([run.path for run in runs], where)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_page_a_run_and_one_of_all(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ehrmind.report.write_report", lambda folder, with_text: [folder / "report.html"]
    )  # tested elsewhere
    printed = CliRunner().invoke(
        app, ["report", *(str(run.path) for run in runs), "--compare", str(tmp_path / "all.html")]
    )
    assert printed.exit_code == 0 and printed.stdout.count("wrote ") == 3 and (tmp_path / "all.html").is_file()


def test_cases_elsewhere_and_labels_have_a_heat_map_beside_their_tables(single: Page) -> None:
    said = [given["aria-label"] or "" for _, given in single.attributes if given.get("role") == "img"]
    assert any(text.startswith("Every arm on every set of cases") for text in said)
    assert any(text.startswith("Truth down, answer across") for text in said)
    assert len(single.table("The same arms on cases of other tasks")) == 2
    rows = single.table("trials/eligibility, Base: truth by row")[1:]
    counts = [[int(cell.split()[0]) for cell in row[1:]] for row in rows]
    assert sum(map(sum, counts)) == 10
    assert all(
        "100.0" in cell
        for row in rows
        for cell in row[1:]
        if int(cell.split()[0]) == sum(map(int, (c.split()[0] for c in row[1:]))) > 0
    )


def test_predicted_risks_have_their_calibration_curve_and_its_figures(runs: list[Run]) -> None:
    figures = read_run(runs[1])
    changed = figures.results.to_dict()
    tenths = [{"risk": 0.1, "observed": 0.25, "n": 4}, {"risk": 0.9, "observed": 1.0, "n": 6}]
    changed["arms"]["rlvr"]["measures"]["trials/eligibility"]["risk"] = {
        "n": 10,
        "positive": 7,
        "subjects": 10,
        "auroc": None,
        "auprc": None,
        "brier": 0.1,
        "f1": 0.9,
        "balanced_accuracy": None,
        "calibration": tenths,
    }
    figures = dataclasses.replace(figures, results=Results.from_dict(changed, "results.json"))
    table = labels.risks(figures)
    assert table is not None and table.rows[0] == ["trials/eligibility", "RLVR only", "10.0\u00a0%", "25.0\u00a0%", "4"]
    assert len(table.rows) == 2 and "RLVR only" in run_plots(figures)["risks"]


def test_cost_counts_time_answers_and_tokens_arm_by_arm(runs: list[Run], single: Page) -> None:
    header, base, rlvr = single.table("The cost of each arm")
    found = results(runs[1])["arms"]
    assert header[1:6] == ["Learning", "Answers sampled to learn", "Scoring", "Tokens read", "Tokens written"]
    assert base[0] == "Base" and base[1:3] == ["–", "–"] and rlvr[2] == str(3 * 4 * 4)
    assert [row[5] for row in (base, rlvr)] == [f"{found[arm]['cost']['tokens']:,}" for arm in ("base", "rlvr")]


def test_licences_are_those_of_the_recipe_or_said_to_be_unknown(runs: list[Run]) -> None:
    figures = read_run(runs[0])
    changed = {
        "train": {"medcalc": ["somewhere/train.csv"]},
        "held_out": {"table": {"path": "somewhere/mine.csv", "kind": "number"}, "licence": "as agreed <b>"},
        "tuning": {"ehr": {"ehrshot": "somewhere/EHRSHOT_ASSETS", "task": "guo_los"}},
        "transfer": figures.recipe.model_dump()["data"]["transfer"],
    }
    recipe = parse_recipe({**figures.recipe.model_dump(mode="json"), "data": changed})
    figures = dataclasses.replace(figures, recipe=recipe)
    rows = told(licences.licences(figures))
    assert rows["train"][1] == "train.csv" and rows["train"][2].startswith("CC BY-SA 4.0")
    assert rows["held-out"][:2] == ["table", "mine.csv"] and rows["held-out"][2] == "as agreed <b> as the recipe says"
    assert rows["tuning"][2].startswith("data use agreement") and rows["tuning"][3] == "never leaves the machine"
    assert rows["another"][2].startswith("none needed") and rows["base model"][2].startswith("not stated")


def test_departures_from_the_paper_and_from_the_plan_are_listed(runs: list[Run]) -> None:
    figures = read_run(runs[0])
    stopped = {"stopped": "no better on tuning", "step": 2, "left_out_too_long": 4}
    marks = {"rlvr": figures.rlvr["rlvr"].model_copy(update=stopped)}
    twice = {"held_out_scorings": figures.results.held_out_scorings * 2}
    results = figures.results.model_copy(update=twice)
    rows = told(deviations.deviations(dataclasses.replace(figures, rlvr=marks, results=results)))
    assert rows["rlvr.samples"] == ["4", "12 the paper"] and rows["decoding.top_p"] == ["1", "0.95 the paper"]
    assert not {"rlvr.kl", "warmup.epochs"} & rows.keys(), "as the paper has it, and nothing was warmed up"
    assert (
        rows["rlvr-rlvr: steps"] == ["2 no better on tuning", "3"]
        and rows["rlvr-rlvr: prompts left out as too long"][0] == "4"
    )
    assert rows["held-out cases scored: Base, greedy, seed 0"] == ["2 times", "once"]


def test_licences_cost_and_departures_stand_on_the_page(single: Page) -> None:
    for caption in ("Licences of data and base model", "The cost of each arm", "Where this run departs"):
        assert single.table(caption)


def told(table: Table | None) -> dict[str, list[str]]:
    """Rows by their header, cells as they read."""
    assert table is not None
    cells = [
        [cell if isinstance(cell, str) else f"{cell.text} {cell.note}".strip() for cell in row] for row in table.rows
    ]
    return {row[0]: row[1:] for row in cells}


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_names_of_many_sets_of_cases_do_not_run_into_each_other(count: int) -> None:
    names = [
        "demo: held-out",
        "demo-trials: held-out",
        "criteria_about_results",
        "coded_histories",
        "readmission_30d",
        "trials",
        "x" * 9,
    ][:count]
    figure = heat(["demo, SFT + RLVR"], names, [[(0.5, "50.0 %")] * count])
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert len(boxes) == count and all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))
