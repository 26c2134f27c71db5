"""`ehrmind data trials`, `data ehr` and their synthetic counterparts on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from ehrmind.cli import main
from ehrmind.data import load_cases
from tests.meds_data import write_meds
from tests.unit.test_ehr_splits import with_sites
from tests.unit.test_ehrshot_source import release
from tests.unit.test_trec_source import a_collection


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert left.value.code == code, err
    return out if code == 0 else err


def test_trials_are_written_and_counted_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = a_collection(tmp_path)
    named = ["--topics", files.topics, "--qrels", files.qrels, "--trials", *files.trials]
    counts = json.loads(said(capsys, "data", "trials", *named, "--out", tmp_path / "cases.parquet", "--json"))
    assert counts["kept"] == 80 == len(load_cases(tmp_path / "cases.parquet")) == sum(counts["by_stratum"].values())
    assert counts["left_out"] == {"the trial's text is not in the files": 10}
    checked = said(capsys, "check", tmp_path / "cases.parquet")
    assert "Proven: the verifier on these cases." in checked and "10 random rows next to their source cells" in checked
    drawn = json.loads(said(capsys, "check", tmp_path / "cases.parquet", "--json"))["drawn"]
    labels = ("not relevant", "excluded", "eligible")
    assert len(drawn) == 10 and all(
        "column 'grade'" in row["from"] and labels[int(row["cell"])] == row["read_as"] for row in drawn
    )


def test_histories_are_written_and_counted_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_meds(tmp_path / "meds")
    out = tmp_path / "cases.parquet"
    counts = json.loads(
        said(
            capsys,
            "data",
            "ehr",
            "--meds",
            folder,
            "--labels",
            folder / "labels" / "high_potassium",
            "--out",
            out,
            "--json",
        )
    )
    assert counts["kept"] == 30 and set(counts["by_split"]) == {"train", "tuning", "held_out"}
    drawn = json.loads(said(capsys, "check", out, "--json"))["drawn"]
    table = pl.read_parquet(folder / "labels" / "high_potassium")
    for row in drawn:
        number = int(row["from"].split("row ")[1].split(",")[0])
        assert (
            row["cell"] == str(table["boolean_value"][number - 1]).lower()
            and row["read_as"] == {"true": "yes", "false": "no"}[row["cell"]]
        )
    assert len(drawn) == 10
    counts = json.loads(
        said(capsys, "data", "ehr", "--ehrshot", release(tmp_path / "e"), "--task", "guo_los", "--out", out, "--json")
    )
    assert counts["by_stratum"] == {"ehr/ehrshot/guo_los": 3}


def test_histories_are_split_by_time_or_site_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = with_sites(tmp_path / "meds")
    labels, out = folder / "labels" / "high_potassium", tmp_path / "cases.parquet"
    asked = ["data", "ehr", "--meds", folder, "--labels", labels, "--out", out, "--json"]
    site = [
        "--split-by",
        "site",
        "--site-column",
        "care_site_id",
        "--held-out-site",
        "3",
        "--held-out-site",
        "0",
        "--tuning-site",
        "1",
    ]
    counts = json.loads(said(capsys, *asked, *site))
    assert counts["left_out"] == {"no visible event has a site": 1}
    assert {split: sum(labels.values()) for split, labels in counts["by_split"].items()} == {
        "train": 7,
        "tuning": 7,
        "held_out": 15,
    }
    days = ["--split-by", "time", "--boundary", "2020-02-01", "--boundary", "2020-03-01"]
    counts = json.loads(said(capsys, *asked, *days))
    beside = {"columns of the event shards that histories do not show: care_site_id": 1}
    assert counts["notes"] == {"subjects": 30, "held_out: from 2020-03-01 on": 30, **beside} and set(
        counts["by_split"]
    ) == {"held_out"}
    assert "ehrmind data ehr: --boundary go with --split-by time, the earlier day first" in said(
        capsys, *asked, *days[2:], code=2
    )


def test_half_of_what_is_needed_is_a_clear_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = said(capsys, "data", "ehr", "--meds", tmp_path, "--out", tmp_path / "cases.parquet", code=2)
    assert "Give --meds DIR and one of --labels FILE and --aces TASK.yaml, or --ehrshot DIR and --task NAME." in error
    assert not (tmp_path / "cases.parquet").exists()


def test_synthetic_trials_are_written_for_the_split_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--n", "40", "--seed", "3", "--split", "held_out", "--kind", "drugs", "--difficulty", "hard"]
    counts = json.loads(
        said(capsys, "data", "synthetic", "trials", *asked, "--out", tmp_path / "cases.parquet", "--json")
    )
    assert counts["by_stratum"] == {"trials/made-up/drugs": 40} and set(counts["by_split"]) == {"held_out"}
