"""report: what the page says, what it never says, and which runs it refuses."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from page_reader import Page
from run_folder import CANARY, finished_run

from ehrmind.report import write_report
from ehrmind.report.plots.learning import running_mean
from ehrmind.report.shareable import without_folders
from ehrmind.runs import Run
from ehrmind.runs.lines import append_line
from ehrmind.types import InputError
from tests.stored import drop, store


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def html(run: Run) -> str:
    (page,) = write_report(run.path)
    assert page == run.path / "report.html"
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture
def small(tmp_path: Path) -> Run:
    return finished_run(tmp_path / "run", cases=14)


def test_every_arm_stands_in_one_table_with_its_interval_under_each_decoding_and_scorer(run: Run, page: Page) -> None:
    results = json.loads((run.path / "results.json").read_text())
    header, *rows = page.table("Share of 140 held-out cases")
    assert header[1:4] == ["greedy, our scorer", "sampled, our scorer", "greedy, the benchmark's scorer"]
    assert [row[0] for row in rows] == ["Base", "RLVR only", "SFT only", "SFT + RLVR"]
    for row, arm in zip(rows, results["arms"], strict=True):
        for cell, view in zip(row[1:4], (results, results["sampled"], results["benchmark"]), strict=True):
            low, high = view["arms"][arm]["ci95"]
            assert cell == f"{100 * view['arms'][arm]['accuracy']:.1f}\u00a0% {100 * low:.1f} to {100 * high:.1f}"
        assert row[4:6] == [str(results["arms"][arm]["correct"]), str(results["arms"][arm]["unparsed"])]


def test_every_pair_has_its_difference_interval_and_test(run: Run, page: Page) -> None:
    results = json.loads((run.path / "results.json").read_text())
    rows = {row[0]: row for row in page.table("Differences in points")[1:]}
    assert len(rows) == 6
    pair = results["pairs"]["sft_rlvr-sft"]
    low, high = (f"{100 * bound:.1f}" for bound in pair["ci95"])
    assert (
        rows["SFT + RLVR − SFT only"][1]
        == f"{100 * pair['difference']:+.1f} {low} to {high}; p < 0.001, adjusted p < 0.001"
    )


def test_the_summary_says_who_won_by_how_much_and_what_the_pilot_predicted(page: Page) -> None:
    assert "SFT + RLVR answers" in page.text and "140 held-out cases" in page.text and "points" in page.text
    assert "no sample of the base model was right in 2 of 5 strata" in page.text
    assert "RLVR alone reaches 0.0\u00a0% there" in page.text


def test_the_pilot_names_the_strata_whose_knowledge_is_missing(page: Page) -> None:
    rows = page.table("The base model on training questions")[1:]
    missing = [row[0] for row in rows if row[-2] == "missing"]
    assert missing == ["medcalc/dosage/morphine-equivalents", "medcalc/physical/maintenance-fluids"]
    assert len(rows) == 6
    predicted = {row[0]: row for row in page.table("What the pilot predicted")[1:]}
    assert predicted["missing"][1:3] == ["2", "56"] and predicted["missing"][4].startswith("0.0\u00a0%")


def test_results_stand_by_category_and_by_calculator(page: Page) -> None:
    categories = {row[0]: row[1] for row in page.table("Held-out accuracy by category")[1:]}
    assert categories == {
        "medcalc/diagnosis": "56",
        "medcalc/dosage": "28",
        "medcalc/physical": "28",
        "medcalc/risk": "28",
    }
    assert len(page.table("Held-out accuracy by stratum")) == 1 + 5


def test_both_reinforced_arms_have_their_learning_curves(page: Page) -> None:
    for arm in ("RLVR only", "SFT + RLVR"):
        header, *rows = page.table(f"RLVR of the arm {arm}")
        assert header[:4] == ["Step", "reward", "right", "well-formed"] and header[-1] == "right on tuning"
        assert [row[0] for row in rows] == [str(step) for step in range(1, 31)]
        assert rows[-1][-1] != "–" and rows[0][-1] == "–"


def test_scorings_of_held_out_cases_are_counted_and_a_second_one_is_marked(small: Run) -> None:
    small.count_scoring("base", "greedy", 5)
    results = json.loads((small.path / "results.json").read_text())
    store(
        small.path / "results.json",
        json.dumps({**results, "held_out_scorings": [scoring.to_dict() for scoring in small.scorings()]}),
    )
    html = write_report(small.path)[0].read_text()
    times = {tuple(row[:2]): row[3] for row in Page(html).table("How often the held-out cases were scored")[1:]}
    assert times["Base", "greedy"] == "2" and times["SFT only", "sampled"] == "1"
    assert '<td class="warn">2</td>' in html


def test_the_page_holds_no_text_of_records_or_answers(run: Run, html: str) -> None:
    assert CANARY not in html and "pwned" not in html
    for case in run.load_cases()["held_out"]:
        assert case.fields["note"] not in html and case.fields["question"] not in html
    assert "script" not in Page(html).tags


def test_no_part_of_the_page_lies_outside_it(html: str, page: Page) -> None:
    assert all(address.startswith(("#", "data:,")) for address in page.addresses), page.addresses
    assert not re.findall(r"url\((?!#)", html) and "@import" not in html
    policy = next(
        given["content"] for tag, given in page.attributes if given.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and "default-src 'none'" in policy and "script-src 'none'" in policy
    addresses = set(re.findall(r"\bhttps?://[^\s\"'<>]+", html))
    assert addresses <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }, "names of XML, nothing that is fetched"


def test_the_page_can_be_read_by_ear_and_every_plot_has_its_table(page: Page) -> None:
    assert ("html", {"lang": "en"}) in page.attributes
    assert page.headers_without_scope == 0 and "" not in page.tables
    assert len(page.ids) == len(set(page.ids)), "an id stands for one thing"
    pictures = [given for _, given in page.attributes if given.get("role") == "img"]
    assert len(pictures) == page.tags.count("svg") == 7 and all(given["aria-label"] for given in pictures)
    assert len(page.tables) >= len(pictures)


def test_the_same_run_gives_the_same_page(run: Run, html: str) -> None:
    assert write_report(run.path)[0].read_text(encoding="utf-8") == html


def test_names_from_a_recipe_or_a_stratum_are_shown_and_never_parsed(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", name="<script>alert(1)</script> {{ 7 * 7 }} $x$", cases=14)
    results = (run.path / "results.json").read_text()
    store(run.path / "results.json", results.replace("medcalc/risk/curb-65", "medcalc/risk/<b>$\\\\frac{1}{2}$"))
    html = write_report(run.path)[0].read_text()
    page = Page(html)
    assert (
        "<script>alert(1)</script> {{ 7 * 7 }} $x$" in page.text and "script" not in page.tags and "b" not in page.tags
    )
    assert html.count("medcalc/risk/&lt;b&gt;$\\frac{1}{2}$") == 1 and ">risk/&lt;b&gt;$\\frac{1}{2}$</text>" in html


def test_folders_of_the_machine_do_not_leave_it(tmp_path: Path) -> None:
    tree = {"data": {"train": {"cases": [str(tmp_path / "train.parquet")]}}, "model": {"name": "hub/model"}, "seed": 1}
    assert without_folders(tree) == {
        "data": {"train": {"cases": ["train.parquet"]}},
        "model": {"name": "hub/model"},
        "seed": 1,
    }


def test_an_evaluation_of_one_arm_alone_has_a_page_too(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", arms=["base"], cases=14)
    drop(run.path / "pilot.json")
    page = Page(write_report(run.path)[0].read_text())
    assert "Base answers" in page.text and "No pilot was run." in page.text and "Nothing was trained." in page.text
    assert "no pair to compare" in page.text


def test_metrics_that_are_no_numbers_leave_gaps(small: Run) -> None:
    append_line(
        small.path / "metrics.jsonl",
        {"stage": "rlvr-rlvr", "arm": "rlvr", "step": 30, "time": 0.0, "reward": float("nan"), "kl": None},
    )
    row = Page(write_report(small.path)[0].read_text()).table("RLVR of the arm RLVR only")[-1]
    assert row[:2] == ["31", "–"] and set(row[1:]) == {"–"}


def test_a_kl_that_nobody_measured_is_not_shown_as_0(tmp_path: Path) -> None:
    page = Page(write_report(finished_run(tmp_path / "run", cases=14, kl=0.0).path)[0].read_text())
    header, *rows = page.table("RLVR of the arm RLVR only")
    assert {row[header.index("KL from the start")] for row in rows} == {"–"}
    assert page.text.count("KL from the start") == 2, "in the tables of both arms, not among the plots"


def test_a_running_mean_leaves_out_what_is_no_number() -> None:
    assert running_mean([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    assert running_mean([float("nan")] + [2.0] * 19)[:2] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("stage", "named"),
    [
        ("pilot", "pilot"),
        ("warmup", "warmup"),
        ("rlvr-sft_rlvr", "rlvr-sft_rlvr"),
        ("evaluate-sft-sampled", "evaluate-sft-sampled"),
    ],
)
def test_an_unfinished_run_is_refused_by_the_stage_it_lacks(stage: str, named: str, small: Run) -> None:
    (small.path / "results.json").unlink()
    (small.path / "stages" / f"{stage}.json").unlink()
    with pytest.raises(InputError, match=f"is not finished: {named} is missing; go on with `ehrmind resume "):
        write_report(small.path)
    assert not (small.path / "report.html").exists()


def test_a_run_that_only_lacks_its_comparison_says_so(small: Run) -> None:
    (small.path / "results.json").unlink()
    with pytest.raises(InputError, match="the comparison of the arms is missing"):
        write_report(small.path)


def test_what_is_no_run_folder_or_is_broken_is_named(small: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        write_report(tmp_path)
    with (small.path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "rlvr-')
    write_report(small.path)  # a line that is being written, or was torn, is left for the next time
    with (small.path / "metrics.jsonl").open("a") as file:
        file.write('rlvr", "step": 31}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line \d+"):
        write_report(small.path)
    (small.path / "results.json").write_text("{")
    with pytest.raises(InputError, match=r"results\.json is damaged: .* --resume"):
        write_report(small.path)


def test_the_page_with_text_is_for_its_owner_only_and_the_other_stays_free_of_text(small: Run) -> None:
    public, private = write_report(small.path, with_text=True)
    assert private == small.protected / "report-with-text.html"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600 and CANARY in private.read_text()
    assert CANARY not in public.read_text()
    assert not list(small.path.rglob("*.partial"))


def test_text_is_refused_after_a_purge_and_the_page_without_it_is_not(small: Run) -> None:
    from ehrmind.runs.purge import purge

    purge(small.path)
    with pytest.raises(InputError, match="purged"):
        write_report(small.path, with_text=True)
    assert write_report(small.path) == [small.path / "report.html"]


def test_importing_the_room_loads_no_plotting_library() -> None:
    code = "import sys, ehrmind.report; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    assert not {"matplotlib", "polars", "jinja2", "torch"} & set(loaded)
