"""TREC Clinical Trials 2021 and 2022 as they are: counts agree with the files' README, every label
is proven, nothing crosses splits.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.config import TrialFiles
from ehrmind.data.splits import check_leaks
from ehrmind.data.trec import read_trials
from ehrmind.types import Case
from ehrmind.verify.audit import check_cases

# pairs with text by label, topics, trials, judged pairs
FIGURES = {"2021": ((476, 137, 156), 72, 583, 35_832), "2022": ((1_140, 28, 52), 25, 815, 18_052)}
OF_HEADINGS = {
    "inclusion",
    "exclusion",
    "criteria",
    "criterion",
    "inclusions",
    "exclusions",
    "key",
    "main",
    "general",
    "patient",
    "patients",
    "study",
    "subject",
    "major",
    "specific",
    "additional",
    "primary",
    "eligibility",
    "for",
    "iii",
}
YEARS = pytest.mark.parametrize("year", FIGURES)


def files(data: Path, year: str, **settings: object) -> TrialFiles:
    folder = data / "trec-clinical-trials"
    return TrialFiles.model_validate(
        {
            "topics": folder / f"trec_{year}_queries.jsonl.gz",
            "qrels": folder / f"trec_{year}_qrels.tsv.gz",
            "trials": [folder / "ctgov_trials.parquet", folder / "trialgpt_parsed_trials.jsonl.gz"],
            **settings,
        }
    )


@cache
def read(data: Path, year: str, split_by: str = "patient") -> Any:
    return read_trials(files(data, year, split_by=split_by))


def in_splits(cases: list[Case]) -> dict[str, list[Case]]:
    return {split: [case for case in cases if case.split == split] for split in ("train", "tuning", "held_out")}


@YEARS
def test_counts_agree_with_the_readme(data_dir: Path, year: str) -> None:
    cases, counts = read(data_dir, year)
    labels, topics, trials, judged = FIGURES[year]
    assert tuple(sum(case.truth["value"] == value for case in cases) for value in range(3)) == labels
    assert (counts.notes["patients"], counts.notes["trials"]) == (topics, trials)
    assert counts.kept + sum(counts.left_out.values()) == judged


@YEARS
def test_every_gold_label_is_right_and_no_corruption_of_it(data_dir: Path, year: str) -> None:
    report = check_cases(read(data_dir, year)[0])
    assert report.ok and report.corrupted.total > 60_000


@YEARS
@pytest.mark.parametrize("split_by", ["patient", "pair"])
def test_no_patient_and_no_pair_crosses_splits(data_dir: Path, year: str, split_by: str) -> None:
    splits = in_splits(read(data_dir, year, split_by)[0])
    check_leaks(train=splits["train"], tuning=splits["tuning"], held_out=splits["held_out"])
    topics = {name: {case.provenance["topic"] for case in cases} for name, cases in splits.items()}
    if split_by == "patient":
        assert not topics["train"] & (topics["tuning"] | topics["held_out"])
    else:
        assert topics["held_out"] <= topics["train"]


@YEARS
def test_no_word_of_a_records_criteria_is_lost_but_those_of_headings_and_bullets(data_dir: Path, year: str) -> None:
    table = data_dir / "trec-clinical-trials" / "ctgov_trials.parquet"
    texts = dict(pl.read_parquet(table).select("nct_id", "criteria").rows())
    for case in read_trials(files(data_dir, year, trials=[table]))[0]:
        kept = " ".join(case.fields[name] for name in ("inclusion", "exclusion", "criteria"))
        lost = words(texts[case.provenance["trial"]] or "") - words(kept)
        assert all(word in OF_HEADINGS or len(word) <= 2 for word in lost), (case.id, lost)


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[a-z0-9]+", text.lower()))
