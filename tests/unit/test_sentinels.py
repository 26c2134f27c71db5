"""Text that a program writes for a missing value is null at the boundary; 0 and 1970-01-01 are
values.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ehrmind.config import EhrFiles, History
from ehrmind.data.ehr import read_ehr
from ehrmind.data.meds import read_shard
from ehrmind.prompts.records import with_histories
from ehrmind.types import InputError
from tests.meds_data import write_meds

NOTHING = ["NaN", "nan", "NULL", "null", "NA", "N/A", "#N/A", r"\N", "", " ", "<NA>", "NaT"]
SOMETHING = ["none seen", "None", "nil", "negative", "0", "0.0", "1970-01-01", "Na+", "null cell", "inf"]


def shard(path: Path, **columns: object) -> Path:
    row = {"subject_id": [1], "time": [datetime(1970, 1, 1)], "code": ["A"]}
    pl.DataFrame({**row, **{name: [value] for name, value in columns.items()}}).write_parquet(path / "0.parquet")
    return path / "0.parquet"


@given(
    st.sampled_from(NOTHING), st.sampled_from(SOMETHING), st.sampled_from([float("nan"), float("inf"), float("-inf")])
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_a_drawn_spelling_of_nothing_is_null_and_a_value_is_kept(
    tmp_path: Path, nothing: str, something: str, number: float
) -> None:
    found = read_shard(shard(tmp_path, numeric_value=number, text_value=nothing, unit=nothing)).row(0, named=True)
    assert (found["numeric_value"], found["text_value"], found["unit"]) == (None, None, None) and found[
        "time"
    ] == datetime(1970, 1, 1)
    found = read_shard(shard(tmp_path, numeric_value=0.0, text_value=something, unit="mg/dL")).row(0, named=True)
    assert (found["numeric_value"], found["text_value"], found["unit"]) == (0.0, something, "mg/dL")


@pytest.mark.parametrize("code", ["", " ", "NaN", "NULL", r"\N"])
def test_a_code_that_is_the_text_of_nothing_is_refused_like_null(tmp_path: Path, code: str) -> None:
    with pytest.raises(InputError, match="row 1, column 'code': no value"):
        read_shard(shard(tmp_path, code=code))
    assert read_shard(shard(tmp_path, code="NA"))["code"].to_list() == ["NA"]  # sodium


def test_a_result_of_nan_is_told_as_no_result_and_one_of_0_as_0(tmp_path: Path) -> None:
    folder = write_meds(tmp_path)
    for path in (folder / "data").rglob("*.parquet"):
        newest = pl.col("numeric_value") > 4.2
        pl.read_parquet(path).with_columns(
            pl.when(newest).then(float("nan")).otherwise(0.0).cast(pl.Float32).alias("numeric_value")
        ).write_parquet(path)
    filled, _ = with_histories(
        read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium"))[0], History(kinds=["labs"])
    )
    texts = {case.fields["history"].split("\n", 1)[1] for case in filled}
    assert not any("nan" in text.lower() for text in texts) and all("potassium 0 mmol/L" in text for text in texts)


def test_a_time_with_a_zone_is_refused_in_the_end_as_well(tmp_path: Path) -> None:
    path = shard(tmp_path, end=datetime(2020, 1, 1))
    pl.read_parquet(path).with_columns(pl.col("end").dt.replace_time_zone("UTC")).write_parquet(path)
    with pytest.raises(InputError, match=r"column 'end'.*timestamps without a zone"):
        read_shard(path)
