"""report: what the page says of repeated samples, subgroups, seen tasks, contamination, what was
forgotten, and several seeds.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from page_reader import Page

from ehrmind.cli.tables import show_results
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.report import write_report
from ehrmind.report.formatting import points
from ehrmind.report.page import contents
from ehrmind.report.reading import read_run
from ehrmind.report.tables.contamination import contamination_sentence
from ehrmind.runs import Run
from ehrmind.runs.records import Contamination, Results
from ehrmind.stages.seeds import run_seeds
from ehrmind.types import InputError
from tests.evaluated_run import plan, recipe, unsteady


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("evaluated")
    ScriptedEngine(plan).save(folder / "base")
    chosen = recipe(seeds=2, evaluate={"repeats": 4, "general": {"n": 28, "gate": True}})
    return run_seeds(
        chosen,
        folder / "run",
        open_engine=lambda _, base: ScriptedEngine.load(base, unsteady),
        locate=lambda _: folder / "base",
    )


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(write_report(run.seeds()[0].path)[0].read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(run: Run) -> Any:
    return json.loads((run.seeds()[0].path / "results.json").read_text())


def test_curves_over_samples_have_a_row_for_any_and_for_the_majority(page: Page, results: Any) -> None:
    header, *rows = page.table("4 samples of every held-out question")
    assert header == ["Arm", "k = 1", "k = 2", "k = 4"]
    assert [row[0] for row in rows] == [
        f"{arm}: {variant_name}"
        for arm in ("Base", "RLVR only")
        for variant_name in ("any right (pass@k)", "majority right")
    ]
    point = results["arms"]["base"]["repeated"]["pass"][2]
    assert rows[0][3].startswith(f"{100 * point['value']:.1f}\u00a0%")


def test_agreement_has_its_measures_and_coverage_its_thresholds(page: Page, results: Any) -> None:
    header, base, _ = page.table("Whether agreement among samples")
    found = results["arms"]["base"]["repeated"]
    assert header[1:4] == ["Brier score", "Calibration error", "Area under risk and coverage"]
    assert base[1] == f"{found['calibration']['brier']:.3f}" and base[3] == f"{found['coverage']['aurc']:.3f}"
    assert len(page.table("Accuracy against coverage")) == 1 + sum(
        len(row["repeated"]["coverage"]["points"]) for row in results["arms"].values()
    )


def test_seen_and_unseen_tasks_and_subgroups_have_their_cases(page: Page) -> None:
    seen = {row[0]: row[1] for row in page.table("Held-out cases of tasks (calculators")[1:]}
    assert seen == {"seen": "20", "unseen": "20"}
    people = {row[0]: int(row[1]) for row in page.table("Held-out cases by the patient's age and sex")[1:]}
    assert (
        sum(n for name, n in people.items() if name.startswith("sex: "))
        == 40
        == sum(n for name, n in people.items() if "age: " in name)
    )


def test_what_was_forgotten_and_shared_stands_in_a_table_and_in_a_sentence(page: Page) -> None:
    (row,) = page.table("28 general questions")[1:]
    assert row[0] == "RLVR only" and row[3] == "lost"
    assert "right, not shown to keep within 5 points of it: RLVR only." in page.text
    assert {row[1] for row in page.table("Records that share 13 words in a row")[1:]} == {"train", "tuning"}
    assert "held-out record" in page.text and "13 words in a row with what was learned from" in page.text


def test_p_is_shown_beside_its_adjusted_value(page: Page, results: Any) -> None:
    pair = results["pairs"]["rlvr-base"]
    cell = page.table("Differences in points")[1][1]
    assert cell.endswith((f"adjusted p = {pair['p_holm']:.3f}", "adjusted p < 0.001"))


def test_baselines_have_accuracy_unanswered_cases_and_every_arms_difference(results: Any) -> None:
    found = results["baseline_accuracy"]["commonest_label"]
    unseen = found["by_stratum"]["medcalc/diagnosis/sirs"]
    assert found["n"] == 40 and found["unanswered"] == 20 == unseen["n"] and unseen["correct"] == 0
    assert 0 < found["correct"] == round(40 * found["accuracy"]) and found["ci95"][0] < found["accuracy"]
    assert set(found["differences"]) == {"base", "rlvr"}
    for arm, pair in found["differences"].items():
        assert pair["difference"] == pytest.approx(results["arms"][arm]["accuracy"] - found["accuracy"])
    oracle = results["baseline_accuracy"]["commonest_label_oracle"]
    assert oracle["accuracy"] > found["accuracy"] and oracle["unanswered"] == 0
    assert results["benchmark"]["baseline_accuracy"].keys() == results["baseline_accuracy"].keys()
    assert "baseline_accuracy" not in results["transfer"]["general"]  # another family


def test_a_pool_of_seeds_pools_the_baselines_and_the_differences_to_them(run: Run) -> None:
    pooled, *singles = (
        json.loads((part.path / "results.json").read_text())["baseline_accuracy"]["commonest_label"]
        for part in (run, *run.seeds())
    )
    assert pooled["per_seed"] == [single["accuracy"] for single in singles]
    for arm, pair in pooled["differences"].items():
        assert pair["per_seed"] == pytest.approx([single["differences"][arm]["difference"] for single in singles])
        assert pair["interval"] == "seeds and groups"


def test_a_pool_of_seeds_pools_the_process_audit(run: Run) -> None:
    def audited(part: Run) -> dict[str, Any]:
        return {
            arm: row["process"] for arm, row in json.loads((part.path / "results.json").read_text())["arms"].items()
        }

    singles = [audited(part) for part in run.seeds()]
    for arm, pooled in audited(run).items():
        found, of = pooled["right_but_flawed"], [single[arm]["right_but_flawed"] for single in singles]
        assert found["n"] == sum(single["n"] for single in of if single) > 0
        assert found["per_seed"] == [single["share"] for single in of if single]
        assert found["share"] == pytest.approx(sum(found["per_seed"]) / len(found["per_seed"]))
        assert found["ci95"][0] <= found["share"] <= found["ci95"][1]
    page = Page(write_report(run.path)[0].read_text(encoding="utf-8"))
    assert "rest on flawed reasoning; of the" in page.text and len(page.table("The process audit of the thinking")) == 3


def test_baselines_stand_in_a_table_in_a_sentence_and_in_the_terminal(
    run: Run, page: Page, results: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *rows = page.table("Baselines without a language model on held-out cases")
    assert header == ["Held-out cases", "Commonest answer of train", "Commonest answer of these cases (oracle)"]
    names = ["Cases", "Right", "No answer", "Base − baseline", "RLVR only − baseline"]
    assert [row[0] for row in rows] == names and rows[2][1:] == ["20", "0"]
    header, *strata = page.table("Held-out accuracy by stratum")
    assert header[-2:] == ["Commonest answer of train", "Commonest answer of these cases (oracle)"]
    assert {row[0]: row[-2].startswith("0.0") for row in strata}["medcalc/diagnosis/sirs"]
    gain = results["baseline_accuracy"]["commonest_label"]["differences"]["rlvr"]["difference"]
    assert f"RLVR only differs from it by {points(gain)} points" in page.text
    show_results(run)
    assert "commonest_label_oracle" in capsys.readouterr().out


def test_results_without_baselines_still_open_and_report(run: Run) -> None:
    part = run.seeds()[0]
    tree = json.loads((part.path / "results.json").read_text())
    for view in (tree, tree["sampled"], tree["benchmark"]):
        del view["baseline_accuracy"]
    old = dataclasses.replace(read_run(part), results=Results.from_dict(tree, "results.json"))
    shown = contents(old)
    assert shown.tables["baselines"] == [] and not any("baseline" in sentence for sentence in shown.summary)


def test_several_seeds_have_a_page_of_their_own_with_every_seeds_figure(run: Run) -> None:
    page = Page(write_report(run.path)[0].read_text(encoding="utf-8"))
    pooled = json.loads((run.path / "results.json").read_text())
    header, base, _ = page.table("The recipe under several seeds")
    assert header == ["Arm", "seed 0", "seed 1", "Mean", "Spread"]
    assert base[1:3] == [f"{100 * share:.1f}\u00a0%" for share in pooled["arms"]["base"]["per_seed"]]
    assert "The pilot of each seed is on its own page." in page.text and "No pilot was run" not in page.text


def test_text_is_asked_for_seed_by_seed(run: Run) -> None:
    with pytest.raises(InputError, match=r"pools 2 seeds .* such as .*seeds/0"):
        write_report(run.path, with_text=True)
    assert len(write_report(run.seeds()[1].path, with_text=True)) == 2


def test_pages_hold_no_text_of_records(run: Run) -> None:
    for part in (run, *run.seeds()):
        shareable = [file for file in part.path.rglob("*") if file.is_file() and "protected" not in file.parts]
        assert shareable and not any(b"year old" in file.read_bytes() for file in shareable)


def test_that_no_record_shares_text_is_said_of_those_that_can_be_compared_only() -> None:
    def said(**counts: int) -> str:
        found: Any = {
            "words": 13,
            "cases": 40,
            "too_short": 0,
            "template_only": 0,
            "template": {"in_more_groups_than": 2, "runs": 0},
            "against": {"train": {"any": 0, "half": 0, "mean_share": 0.0}},
            **counts,
        }
        (sentence,) = contamination_sentence({"held_out": Contamination.from_dict(found, "contamination")})
        return sentence

    assert said() == "None of 40 held-out records shares 13 words in a row with what was learned from."
    some = said(too_short=30, template_only=4)
    assert some.startswith("None of 6 held-out records that can be compared shares 13 words")
    assert "30 are shorter than 13 words and 4 hold nothing but text of many patients" in some
    assert said(too_short=40).startswith(
        "No held-out record can be compared with what was learned from: 40 are shorter"
    )
