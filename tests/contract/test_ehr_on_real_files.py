"""Every label file of the two MEDS data sets: counts agree with their READMEs, labels are proven,
no event of the future is visible.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ehrmind.config import EhrFiles, History
from ehrmind.data.ehr import read_ehr
from ehrmind.data.ehrshot import open_ehrshot
from ehrmind.data.meds import open_meds
from ehrmind.data.splits import check_leaks
from ehrmind.prompts.records import with_histories
from ehrmind.types import InputError
from ehrmind.verify.audit import check_cases

SETS = ("synthea-meds", "mimic-iv-demo-meds")
TASKS = {
    "synthea-meds": ("guo_los", "guo_readmission", "lab_anemia", "long_stay_2d", "new_acutemi", "new_hyperlipidemia", "new_hypertension"),
    "mimic-iv-demo-meds": ("guo_icu", "guo_los", "guo_readmission", "lab_anemia", "lab_hyperkalemia", "lab_hypoglycemia",
                           "lab_hyponatremia", "lab_thrombocytopenia"),
}  # fmt: skip
EVERY_TASK = pytest.mark.parametrize(
    ("name", "task"), [(name, task) for name, tasks in TASKS.items() for task in tasks]
)


def folder(data: Path, name: str) -> Path:
    return data / name / "meds" if name == "mimic-iv-demo-meds" else data / name


def readme_counts(data: Path, name: str, task: str) -> dict[str, tuple[int, int]]:
    """{split: (positive, negative)} as the data set's README states them."""
    row = next(line for line in (data / name / "README.md").read_text().splitlines() if line.startswith(f"| {task} |"))
    pairs = re.findall(r"(\d+) / (\d+) \(", row)
    return dict(zip(("train", "tuning", "held_out"), [(int(yes), int(no)) for yes, no in pairs], strict=True))


@EVERY_TASK
def test_labels_by_split_agree_with_the_readme_and_are_proven(data_dir: Path, name: str, task: str) -> None:
    files = EhrFiles(meds=folder(data_dir, name), labels=folder(data_dir, name) / "labels" / task)
    cases, _ = read_ehr(files)
    splits = {split: [case for case in cases if case.split == split] for split in ("train", "tuning", "held_out")}
    found = {
        split: (sum(c.truth["value"] > 0 for c in part), sum(c.truth["value"] == 0 for c in part))
        for split, part in splits.items()
    }
    assert found == readme_counts(data_dir, name, task)
    check_leaks(train=splits["train"], tuning=splits["tuning"], held_out=splits["held_out"])
    some = cases[:: max(1, len(cases) // 150)]
    assert check_cases(some).ok


@pytest.mark.parametrize("task", ["guo_readmission", "lab_anemia", "new_hypertension"])
def test_by_time_every_label_is_placed_or_counted_in_both_formats(data_dir: Path, task: str) -> None:
    by_time: dict[str, Any] = {"split_by": "time", "boundaries": ["2010-01-01", "2016-01-01"]}
    meds, counts = read_ehr(
        EhrFiles(meds=data_dir / "synthea-meds", labels=data_dir / "synthea-meds" / "labels" / task, **by_time)
    )
    ehrshot, _ = read_ehr(EhrFiles(ehrshot=data_dir / "synthea-ehrshot-format", task=task, **by_time))
    splits = {split: [case for case in meds if case.split == split] for split in ("train", "tuning", "held_out")}
    check_leaks(train=splits["train"], tuning=splits["tuning"], held_out=splits["held_out"])
    assert counts.kept + sum(counts.left_out.values()) == sum(
        map(sum, readme_counts(data_dir, "synthea-meds", task).values())
    )
    for split, first, last in (("train", "0", "2010"), ("tuning", "2010", "2016"), ("held_out", "2016", "3")):
        assert splits[split] and all(first <= case.provenance["as_of"] < last for case in splits[split])
    own = open_meds(data_dir / "synthea-meds").splits
    assert all(case.split == "held_out" for case in meds if own[case.provenance["subject"]] == "held_out")
    placed = [
        sorted((c.provenance["subject"], c.provenance["as_of"], c.split) for c in cases) for cases in (meds, ehrshot)
    ]
    assert placed[0] == placed[1]


def test_shifted_dates_are_not_split_by_time(data_dir: Path) -> None:
    meds = folder(data_dir, "mimic-iv-demo-meds")
    with pytest.raises(InputError, match="these dates are shifted"):
        read_ehr(EhrFiles(meds=meds, labels=meds / "labels" / "guo_los", split_by="time"))


@pytest.mark.parametrize("name", SETS)
def test_no_event_of_the_future_is_visible_at_ten_thousand_times(data_dir: Path, name: str) -> None:
    data = open_meds(folder(data_dir, name))
    draw = np.random.default_rng(11)
    for shard, timeline in data.timelines():
        events = pl.read_parquet(shard)
        dated = events.filter(pl.col("time").is_not_null()).sample(3_400, with_replacement=True, seed=5)
        subjects = dated["subject_id"].to_numpy()
        # at an event, a microsecond before it, a day around it
        shift = draw.choice([0, -1, 86_400_000_000, -86_400_000_000], size=len(subjects))
        times = dated["time"].cast(int).to_numpy() + shift
        found = timeline.visible(subjects, times, newest=50)
        at = pl.Series(times[found.events["request"].to_numpy()]).cast(pl.Datetime("us"))
        assert not (found.events["time"] > at).any() and not (found.events["end"] > at).any()
        codes = timeline.whats["code"].gather(found.events["what"])
        known = found.events.select("request", "time", codes.alias("code"))
        for place in range(60):  # its own subject's newest, and nobody else's
            own = events.filter((pl.col("subject_id") == subjects[place]) & (pl.col("time").cast(int) <= times[place]))
            assert known.filter((pl.col("request") == place) & pl.col("time").is_not_null()).rows() == [
                (place, *row) for row in own.select("time", "code").tail(50).rows()
            ]
        wanted = pl.DataFrame({"subject_id": subjects[:200], "at": times[:200]}).with_row_index("request").join(
            events.select("subject_id", pl.col("time").cast(int).alias("time")).drop_nulls(), on="subject_id"
        ).filter(pl.col("time") <= pl.col("at")).group_by("request").len()  # fmt: skip
        counted = dict(wanted.iter_rows())
        assert [counted.get(place, 0) for place in range(200)] == found.known[:200].tolist()


@pytest.mark.parametrize(
    ("name", "task"), [("synthea-meds", "long_stay_2d"), ("mimic-iv-demo-meds", "guo_readmission")]
)
def test_histories_of_real_records_are_written_within_the_budget(data_dir: Path, name: str, task: str) -> None:
    cases, _ = read_ehr(EhrFiles(meds=folder(data_dir, name), labels=folder(data_dir, name) / "labels" / task))
    filled, counts = with_histories(cases, History(max_tokens=500))
    assert all("years old" in case.fields["history"] for case in filled)
    assert max(len(case.fields["history"].encode().split(b"\n", 1)[-1]) for case in filled) <= 1500
    assert isinstance(counts["findings_cut"], int) and counts["findings_cut"] > 0


@pytest.mark.parametrize("task", TASKS["synthea-meds"])
def test_the_ehrshot_format_gives_the_labels_and_the_visible_events_of_the_meds_one(data_dir: Path, task: str) -> None:
    meds, _ = read_ehr(EhrFiles(meds=data_dir / "synthea-meds", labels=data_dir / "synthea-meds" / "labels" / task))
    ehrshot, counts = read_ehr(EhrFiles(ehrshot=data_dir / "synthea-ehrshot-format", task=task))
    key = [(case.provenance["subject"], case.provenance["as_of"], case.truth["value"], case.split) for case in meds]
    assert sorted(key) == sorted(
        (case.provenance["subject"], case.provenance["as_of"], case.truth["value"], case.split) for case in ehrshot
    )
    found = {split: (sum(n for label, n in labels.items() if label not in ("no", "normal")), labels.get("no", labels.get("normal", 0)))
             for split, labels in counts.by_split.items()}  # fmt: skip
    assert found == readme_counts(data_dir, "synthea-meds", task)


def test_both_formats_show_as_much_of_every_subject(data_dir: Path) -> None:
    known = []
    for data in (open_meds(data_dir / "synthea-meds"), open_ehrshot(data_dir / "synthea-ehrshot-format")):
        at = int(np.datetime64("2012-06-01", "us").astype(int))
        counts: dict[int, int] = {}
        for _, timeline in data.timelines():
            subjects = np.array(sorted(subject for subject in data.splits if timeline.has(np.array([subject]))[0]))
            counts |= dict(
                zip(
                    subjects.tolist(),
                    timeline.visible(subjects, np.full(len(subjects), at)).known.tolist(),
                    strict=True,
                )
            )
        known.append(counts)
    assert known[0] == known[1] and len(known[0]) == 615


def test_an_aces_task_labels_readmissions_as_counted_without_aces(data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("aces")
    path = tmp_path / "inpatient_again.yaml"
    path.write_text("""predicates: {inpatient: {code: Visit/IP}}
trigger: inpatient
windows:
  input: {start: null, end: trigger, start_inclusive: true, end_inclusive: true, index_timestamp: end}
  target: {start: input.end, end: start + 30d, start_inclusive: false, end_inclusive: true, label: inpatient}
""")
    cases, counts = read_ehr(EhrFiles(meds=data_dir / "synthea-meds", aces=path))
    visits = pl.read_parquet(data_dir / "synthea-meds" / "data" / "*" / "0.parquet").filter(
        pl.col("code") == "Visit/IP"
    )
    by_subject = {subject: sorted(times) for subject, times in visits.group_by("subject_id").agg("time").iter_rows()}
    expected = {
        (subject, at.isoformat(), int(any(at < later <= at + timedelta(days=30) for later in times)))
        for subject, times in by_subject.items()
        for at in times
    }
    assert {(case.provenance["subject"], case.provenance["as_of"], case.truth["value"]) for case in cases} == expected
    assert len(expected) == len(cases) == 613 and counts.left_out == {}
    assert sum(labels["yes"] for labels in counts.by_split.values()) == sum(value for *_, value in expected) == 102
