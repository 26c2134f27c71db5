"""Splits by time and by site: no subject crosses, no split is laxer than the data set's own, and
what is left out is counted.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ehrmind.config import EhrFiles
from ehrmind.data.ehr import read_ehr
from ehrmind.data.ehr_splits import EARLIER, NO_SITE, RESERVED, kept_apart, split_histories
from ehrmind.data.labels import label_truth
from ehrmind.data.meds import Meds
from ehrmind.data.splits import SPLITS, check_leaks
from ehrmind.types import Case, InputError, Split
from tests.meds_data import START, write_meds

NAMED: dict[str, Any] = {"meds": "meds", "labels": "labels.parquet"}
BOUNDARIES = (date(2020, 4, 1), date(2020, 7, 1))


def label(subject: int, at: datetime, own: Split = "train") -> Case:
    return Case(
        id=f"{subject}-{at.isoformat()}",
        family="ehr",
        task="t",
        stratum="ehr/x/t",
        split=own,
        group=f"x-{subject}",
        fields={},
        truth=label_truth(0, ("no", "yes")),
        provenance={"subject": subject, "as_of": at.isoformat()},
    )


def by_split(cases: list[Case]) -> dict[str, list[Case]]:
    return {split: [case for case in cases if case.split == split] for split in SPLITS}


def times(cases: list[Case]) -> list[datetime]:
    return [datetime.fromisoformat(case.provenance["as_of"]) for case in cases]


def data(splits: dict[int, Split] | None = None) -> Meds:
    return Meds(Path("meds"), (), "x", splits or {})


LABELS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2000)), min_size=1, max_size=60, unique=True)


@given(LABELS, st.none() | st.just(BOUNDARIES), st.dictionaries(st.integers(1, 12), st.sampled_from(SPLITS)))
def test_by_time_nothing_crosses_nothing_is_lost_and_train_lies_before_held_out(
    rows: list[tuple[int, int]], boundaries: tuple[date, date] | None, some: dict[int, Split]
) -> None:
    own: dict[int, Split] = {subject: some.get(subject, "train") for subject in range(1, 13)} if some else {}
    cases = [
        label(subject, START + timedelta(hours=6 * quarter), own.get(subject, "train")) for subject, quarter in rows
    ]
    try:
        kept, left_out, _ = split_histories(cases, data(own), EhrFiles(**NAMED, split_by="time", boundaries=boundaries))
    except InputError as error:
        assert "no label in held_out" in str(error)
        return
    splits = by_split(kept)
    check_leaks(train=splits["train"], tuning=splits["tuning"], held_out=splits["held_out"])
    assert len(kept) + sum(left_out.values()) == len(cases)
    for earlier, later in (("train", "tuning"), ("tuning", "held_out"), ("train", "held_out")):
        if splits[earlier] and splits[later]:
            assert max(times(splits[earlier])) < min(times(splits[later]))
    for case in kept:
        assert SPLITS.index(case.split) >= SPLITS.index(own.get(case.provenance["subject"], "train"))


@given(st.lists(st.tuples(st.integers(1, 8), st.sampled_from(SPLITS)), max_size=40), st.data())
def test_however_labels_are_wanted_no_subject_is_in_two_splits(
    rows: list[tuple[int, Split]], draw: st.DataObject
) -> None:
    own = {subject: draw.draw(st.sampled_from(SPLITS)) for subject in {subject for subject, _ in rows}}
    cases = [label(subject, START + timedelta(days=place), own[subject]) for place, (subject, _) in enumerate(rows)]
    kept, left_out = kept_apart(cases, [split for _, split in rows])
    splits = by_split(kept)
    check_leaks(train=splits["train"], tuning=splits["tuning"], held_out=splits["held_out"])
    assert len(kept) + sum(left_out.values()) == len(cases)
    latest = {subject: max(SPLITS.index(split) for who, split in rows if who == subject) for subject in own}
    assert all(SPLITS.index(case.split) == latest[case.provenance["subject"]] for case in kept)


def test_a_subject_on_both_sides_keeps_its_latest_split_and_the_rest_is_counted() -> None:
    on = [datetime(2020, month, 1) for month in (1, 2, 4, 7)]
    cases = [label(1, on[0]), label(1, on[3]), label(2, on[1]), label(2, on[2]), label(3, on[0]), label(3, on[1])]
    kept, left_out, notes = split_histories(cases, data(), EhrFiles(**NAMED, split_by="time", boundaries=BOUNDARIES))
    assert [(case.provenance["subject"], case.split) for case in kept] == [
        (1, "held_out"),
        (2, "tuning"),
        (3, "train"),
        (3, "train"),
    ]
    assert left_out == {EARLIER: 2}
    assert notes == {"tuning: from 2020-04-01 on": 1, "held_out: from 2020-07-01 on": 1}


def test_whom_the_data_set_holds_out_is_never_learnt_from_or_selected_by() -> None:
    own: dict[int, Split] = {1: "held_out", 2: "tuning", 3: "train"}
    months = (1, 5, 8)
    cases = [label(subject, datetime(2020, month, 1), own[subject]) for month in months for subject in own]
    for upto, wanted, reasons in (
        (3, {"train": [3]}, {RESERVED: 2}),
        (6, {"tuning": [2, 3]}, {RESERVED: 3, EARLIER: 1}),
        (9, {"held_out": [1, 2, 3]}, {RESERVED: 3, EARLIER: 3}),
    ):
        others = [label(9, datetime(2020, 9, 1), "held_out")]  # somebody is held out
        files = EhrFiles(**NAMED, split_by="time", boundaries=BOUNDARIES)
        kept, left_out, notes = split_histories(cases[:upto] + others, data({**own, 9: "held_out"}), files)
        found = {
            split: [case.provenance["subject"] for case in part] for split, part in by_split(kept[:-1]).items() if part
        }
        assert found == wanted and left_out == reasons
    assert notes["held_out: of subjects that the data set itself does not hold out"] == 2


def test_shares_are_quantiles_of_the_labels_times_in_whole_days() -> None:
    cases = [label(subject, START + timedelta(days=subject, hours=subject % 24)) for subject in range(100)]
    kept, left_out, _ = split_histories(cases, data(), EhrFiles(**NAMED, split_by="time", shares=(0.6, 0.1, 0.3)))
    assert [len(part) for part in by_split(kept).values()] == [60, 10, 30] and not left_out


def test_dates_in_the_future_are_shifted_and_cannot_be_split_by_time() -> None:
    with pytest.raises(InputError, match="run to 2120: these dates are shifted"):
        split_histories([label(1, datetime(2120, 1, 1)), label(2, START)], data(), EhrFiles(**NAMED, split_by="time"))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"split_by": "time", "boundaries": ["2021-01-01", "2020-01-01"]}, "the earlier day first"),
    ({"boundaries": ["2020-01-01", "2021-01-01"]}, "boundaries go with split_by=time"),
    ({"held_out_sites": ["a"]}, "go with split_by=site"),
    ({"split_by": "site", "site_column": "site"}, "needs site_column and held_out_sites"),
    (
        {"split_by": "site", "site_column": "site", "held_out_sites": [1], "tuning_sites": ["1"]},
        "'1' is among held_out_sites and",
    ),
    ({"meds": None, "labels": None, "ehrshot": "e", "task": "t", "split_by": "site"}, "EHRSHOT's files name no site"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG)
def test_keys_that_do_not_fit_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EhrFiles(**{**NAMED, **changes})


def with_sites(folder: Path, *, own_splits: bool = False) -> Path:
    """Subject s is at site s % 4 throughout, as an integer; 1 and 2 have been at site 3 since their
    last visit, 5 was registered at site 3 (a static row), and 4 is nowhere."""
    write_meds(folder)
    for shard in (folder / "data").rglob("*.parquet"):
        events = pl.read_parquet(shard)
        at = pl.col("subject_id") % 4
        moved = pl.col("subject_id").is_in([1, 2]) & (pl.col("code") == "Visit/IP")
        moved |= (pl.col("subject_id") == 5) & pl.col("time").is_null()
        events = events.with_columns(
            pl.when(pl.col("code") == "LOINC/2823-3").then(at).when(moved).then(3).alias("care_site_id")
        )
        events.with_columns(
            pl.when(pl.col("subject_id") != 4).then("care_site_id").alias("care_site_id")
        ).write_parquet(shard)
    if not own_splits:
        (folder / "metadata" / "subject_splits.parquet").unlink()
    return folder


def site_files(folder: Path, **changes: Any) -> EhrFiles:
    named: dict[str, Any] = {"meds": folder, "labels": folder / "labels" / "high_potassium", "split_by": "site"}
    return EhrFiles(**{**named, "site_column": "care_site_id", "held_out_sites": [3], **changes})


def test_a_labels_site_is_that_of_the_newest_visible_event_that_has_one(tmp_path: Path) -> None:
    folder = with_sites(tmp_path / "meds")
    early = START + timedelta(days=99, hours=1)  # between the last test and the visit of day 100
    rows = [
        (subject, early + timedelta(days=days), True)
        for subject in (1, 2, 5, 6, 7, 8, 9)
        for days in ((0, 5) if subject == 1 else (0,))
    ]
    rows.append((3, START + timedelta(days=1), True))  # before its first event with a site
    columns = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "boolean_value": pl.Boolean}
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(folder / "labels" / "mine.parquet")
    cases, counts = read_ehr(site_files(folder, labels=folder / "labels" / "mine.parquet", tuning_sites=[2]))
    found = {split: [case.provenance["subject"] for case in part] for split, part in by_split(cases).items()}
    assert found == {"train": [5, 8, 9], "tuning": [2, 6], "held_out": [1, 7]}
    assert counts.left_out == {EARLIER: 1, NO_SITE: 1} and counts.kept + sum(counts.left_out.values()) == len(rows)


def test_by_site_no_subject_crosses_and_tuning_is_a_share_of_trains_subjects(tmp_path: Path) -> None:
    cases, counts = read_ehr(site_files(with_sites(tmp_path / "meds"), shares=(0.8, 0.2, 0.0)))
    splits = by_split(cases)
    check_leaks(train=splits["train"], tuning=splits["tuning"], held_out=splits["held_out"])
    assert sorted(case.provenance["subject"] for case in splits["held_out"]) == [1, 2, 3, 7, 11, 15, 19, 23, 27]
    assert (len(splits["train"]), len(splits["tuning"])) == (16, 4) and counts.left_out == {NO_SITE: 1}


def test_by_site_the_data_sets_own_splits_are_never_loosened(tmp_path: Path) -> None:
    folder = with_sites(tmp_path / "meds", own_splits=True)
    own = dict(pl.read_parquet(folder / "metadata" / "subject_splits.parquet").iter_rows())
    cases, counts = read_ehr(site_files(folder))
    assert {(own[case.provenance["subject"]], case.split) for case in cases} == {
        ("train", "train"), ("tuning", "tuning"), ("train", "held_out"), ("tuning", "held_out"), ("held_out", "held_out")
    }  # fmt: skip
    assert counts.left_out[RESERVED] == sum(
        own[s] == "held_out" and s % 4 != 3 and s not in (1, 2, 4) for s in range(1, 31)
    )


def test_what_is_no_site_there_is_refused_without_the_names_of_those_there_are(tmp_path: Path) -> None:
    folder = with_sites(tmp_path / "meds")
    with pytest.raises(InputError, match="is of site 'X' in column 'care_site_id', which has 4 other sites; name"):
        read_ehr(site_files(folder, held_out_sites=["3", "X"]))
    with pytest.raises(
        InputError, match=r"0.parquet has no column 'hospital' for site_column; it has subject_id, .*care_site_id\."
    ):
        read_ehr(site_files(folder, site_column="hospital"))
    with pytest.raises(InputError, match="column 'numeric_value': Float32 values; a site is a text or an integer"):
        read_ehr(site_files(folder, site_column="numeric_value"))
    for shard in (folder / "data").rglob("*.parquet"):
        events = pl.read_parquet(shard)
        wards = pl.Series("ward", [f"S{row:03}" for row in range(events.height)])
        events.with_columns(wards).write_parquet(shard)
    with pytest.raises(InputError, match=r"which has 70 other sites; name one as the events do\.$"):
        read_ehr(site_files(folder, site_column="ward"))
