"""The published MedCalc-Bench files are read whole: every row is kept or counted, and the counts
are their README's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ehrmind.calculators.catalogue import CATALOGUE
from ehrmind.data import load_cases, save_cases
from ehrmind.data.medcalc import read_medcalc
from ehrmind.data.splits import check_leaks, split_by_group, without_leaks
from ehrmind.types import InputError


@pytest.mark.parametrize(
    ("name", "kept", "left_out", "calculators"),
    [
        ("test_v1.0_dev.csv.gz", 522, {}, 55),
        ("test_v1.0_physician_corrected_dev.csv.gz", 407, {"no answer (N/A)": 31}, 55),
        ("train_subset_v1.0.parquet", 1064, {}, 40),
        ("one_shot_verified_55.csv.gz", 55, {}, 55),
    ],
)
def test_every_row_is_kept_or_counted(
    data_dir: Path, name: str, kept: int, left_out: Mapping[str, int], calculators: int
) -> None:
    cases, counts = read_medcalc([data_dir / "medcalc-bench" / name], split="train")
    assert (len(cases), counts.kept, counts.left_out) == (kept, kept, left_out)
    assert len({case.truth["calculator"] for case in cases} | (set(CATALOGUE) if left_out else set())) == calculators
    assert len({case.id for case in cases}) == kept and sum(counts.by_stratum.values()) == kept
    assert {case.stratum.split("/")[1] for case in cases} <= {
        "lab",
        "physical",
        "date",
        "dosage",
        "risk",
        "severity",
        "diagnosis",
    }


def test_all_files_read_together_keep_their_ids_apart_and_come_back_from_a_cases_file(
    data_dir: Path, tmp_path: Path
) -> None:
    files = sorted(
        path for path in (data_dir / "medcalc-bench").iterdir() if path.name.endswith((".csv.gz", ".parquet"))
    )
    cases, counts = read_medcalc(files, split="train")
    assert len({case.id for case in cases}) == len(cases) == 522 + 407 + 1064 + 55 and len(counts.files) == 4
    save_cases(cases, tmp_path / "cases.parquet")
    assert load_cases(tmp_path / "cases.parquet") == cases


def test_train_rows_whose_note_is_in_the_test_half_are_the_flagged_ones_and_are_refused(data_dir: Path) -> None:
    train, counts = read_medcalc([data_dir / "medcalc-bench" / "train_subset_v1.0.parquet"], split="train")
    held_out, _ = read_medcalc([data_dir / "medcalc-bench" / "test_v1.0_dev.csv.gz"], split="held_out")
    assert counts.notes["note is also in the benchmark's test split (note_in_test)"] == 40
    with pytest.raises(InputError, match="40 cases"):
        check_leaks(train=train, tuning=[], held_out=held_out)
    kept, dropped = without_leaks(train, held_out)
    assert dropped == 40 and not any(case.provenance["note_in_test"] for case in kept)
    rest, tuning = split_by_group(kept, 0.1, seed=0)
    check_leaks(train=rest, tuning=tuning, held_out=held_out)
