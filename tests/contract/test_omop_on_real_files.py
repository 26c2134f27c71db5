"""A synthetic hospital's OMOP 5.4 tables: every row is there or counted, and a history ends at its
prediction time.
"""

from __future__ import annotations

import zipfile
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from meds.schema import DataSchema

from ehrmind.config import EhrFiles, History
from ehrmind.data.ehr import read_ehr
from ehrmind.data.meds import open_meds
from ehrmind.data.omop import OmopCounts, convert_omop
from ehrmind.prompts.records import with_histories
from ehrmind.types import Case
from ehrmind.verify.audit import check_cases

ROWS = {"person": 28, "visit_occurrence": 1791, "condition_occurrence": 470, "drug_exposure": 883, "measurement": 10040,
        "observation": 8099, "procedure_occurrence": 1649, "death": 3}  # fmt: skip
STARTS = ("visit_start", "visit_detail_start", "condition_start", "drug_exposure_start", "device_exposure_start", "procedure",
          "measurement", "observation", "death")  # fmt: skip
EVERYTHING = History(max_tokens=100_000, max_events=100_000)


@pytest.fixture(scope="module")
def archive(data_dir: Path) -> Path:
    found = sorted((data_dir / "synthea27nj-omop54").glob("*.zip"))
    if not found:
        pytest.skip(f"no zip of OMOP tables in {data_dir / 'synthea27nj-omop54'}")
    return found[0]


@pytest.fixture(scope="module")
def converted(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OmopCounts]:
    out = tmp_path_factory.mktemp("omop") / "meds"
    return out, convert_omop(archive, out)


def table(archive: Path, name: str) -> pl.DataFrame:
    with zipfile.ZipFile(archive) as files:
        return pl.read_csv(files.read(f"{name.upper()}.csv"), infer_schema=False)


def labelled(meds: Path, rows: pl.DataFrame) -> list[Case]:
    """Cases of labels that the test wrote: subject_id, prediction_time, boolean_value."""
    labels = meds.parent / f"{meds.name}-labels" / "long_visit"
    labels.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(labels / "labels.parquet")
    cases, _ = read_ehr(EhrFiles(meds=meds, labels=labels, question="Will the visit last longer than a day?"))
    return cases


def histories(cases: list[Case]) -> dict[int, str]:
    filled, _ = with_histories(cases, EVERYTHING)
    return {case.provenance["subject"]: case.fields["history"] for case in filled}


def test_every_row_is_an_event_or_counted_as_its_readme_says(converted: tuple[Path, OmopCounts]) -> None:
    out, counts = converted
    data = open_meds(out)
    found = pl.concat([pl.read_parquet(shard) for shard in data.shards])
    for shard in data.shards:
        DataSchema.validate(pq.read_table(shard))
    by_table = dict(found["omop_table"].value_counts().iter_rows())
    for name, rows in ROWS.items():
        of = counts.tables[name]
        assert of.rows == rows
        if name != "person":
            assert by_table[name] == of.events == rows - sum(of.left_out.values())
    assert found.filter(pl.col("code") == "MEDS_BIRTH")["subject_id"].n_unique() == counts.subjects == 28
    assert not data.splits and [shard for shard, _ in data.timelines()] == list(data.shards)


def test_nearly_every_code_has_its_vocabularys_name(converted: tuple[Path, OmopCounts]) -> None:
    out, counts = converted
    codes = pl.read_parquet(out / "metadata" / "codes.parquet")
    unnamed = codes.filter(pl.col("description").is_null())["code"].to_list()
    assert unnamed == ["RACE/hawaiian", "RACE/other"]  # persons whose race concept is 0
    assert counts.codes["by a number only"] == 0 and counts.codes["by their source value"] == 4
    assert codes.filter(pl.col("parent_codes").list.len() > 0).height == 16


def test_a_long_visit_is_asked_about_without_its_end(archive: Path, converted: tuple[Path, OmopCounts]) -> None:
    visits = table(archive, "visit_occurrence").with_columns(pl.col("visit_start_date", "visit_end_date").str.to_date())
    stays = visits.filter(pl.col("visit_concept_id").is_in(["9201", "9203"])).select(
        pl.col("person_id").cast(pl.Int64).alias("subject_id"),
        (pl.col("visit_start_date").cast(pl.Datetime("us")) + timedelta(hours=12)).alias("prediction_time"),
        (pl.col("visit_end_date") - pl.col("visit_start_date") > timedelta(days=1)).alias("boolean_value"),
    )
    cases = labelled(converted[0], stays.unique(["subject_id", "prediction_time"], maintain_order=True))
    assert len(cases) > 60 and {case.truth["value"] for case in cases} == {0, 1} and check_cases(cases).ok
    filled, _ = with_histories(cases, EVERYTHING)
    for case in filled:
        head, today = case.fields["history"].split("\n")[:2]
        assert "years old" in head and ("male" in head or "female" in head)
        assert today.startswith("today: ") and (
            "Inpatient Visit, no end known" in today or "Emergency Room Visit, no end known" in today
        )
    everything = "\n".join(case.fields["history"] for case in filled)
    for name in ("Outpatient Visit", "Body mass index (BMI) [Ratio]", "Body weight", "kg"):
        assert name in everything


@pytest.mark.parametrize("day", [date(2005, 3, 1), date(2012, 6, 15), date(2019, 11, 20)])
def test_a_history_says_what_it_would_if_the_record_had_stopped_that_day(
    archive: Path, converted: tuple[Path, OmopCounts], tmp_path: Path, day: date
) -> None:
    """Nothing of the future, neither a row nor an end, changes a word."""
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    for name in (*ROWS, "visit_detail", "device_exposure", "concept"):
        rows = table(archive, name)
        if start := next((f"{stem}_date" for stem in STARTS if f"{stem}_date" in rows.columns), None):
            rows = rows.filter(pl.col(start).str.to_date() <= day)
        for end in (column for column in rows.columns if column.endswith(("end_date", "end_datetime"))):
            rows = rows.with_columns(pl.when(pl.col(end).str.slice(0, 10).str.to_date() < day).then(pl.col(end)))
        rows.write_csv(stopped / f"{name}.csv")
    convert_omop(stopped, tmp_path / "meds")
    born = table(archive, "person").filter(pl.col("birth_datetime").str.slice(0, 10).str.to_date() <= day)
    noon = datetime(day.year, day.month, day.day, 12)
    rows = born.select(pl.col("person_id").cast(pl.Int64).alias("subject_id"), pl.lit(noon).alias("prediction_time"))
    rows = rows.with_columns((pl.col("subject_id") % 2 == 0).alias("boolean_value"))
    whole, then = histories(labelled(converted[0], rows)), histories(labelled(tmp_path / "meds", rows))
    assert whole == then and len(whole) >= 15
    assert max(len(text) for text in whole.values()) > 1000
