"""`ehrmind check` on the real rows: gold 100 %, corruptions 0 %, and the table in
docs/verifier.md."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ehrmind.data.medcalc import read_medcalc
from ehrmind.prompts import gold_response, messages
from ehrmind.types import Case
from ehrmind.verify.audit import check_cases
from ehrmind.verify.benchmark import benchmark_score
from tests.verifier_parity import as_markdown, parity

FILES = {
    "test_v1.0_dev.csv.gz": 522,
    "test_v1.0_physician_corrected_dev.csv.gz": 407,
    "train_subset_v1.0.parquet": 1064,
    "one_shot_verified_55.csv.gz": 55,
}


def read(data_dir: Path, name: str) -> list[Case]:
    return read_medcalc([data_dir / "medcalc-bench" / name], split="held_out")[0]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("think", [True, False])
def test_every_gold_response_of_the_file_passes_and_no_corruption_does(data_dir: Path, name: str, think: bool) -> None:
    cases = read(data_dir, name)
    start = time.perf_counter()
    report = check_cases(cases, think)
    assert report.ok, report.failures
    assert report.gold.total == FILES[name]
    assert (time.perf_counter() - start) / len(cases) < 0.02  # measured: 0.0016 s a case; 55,000 in a couple of minutes


def test_the_benchmark_calls_every_gold_response_right_too(data_dir: Path) -> None:
    for name in FILES:
        assert all(benchmark_score(case, gold_response(case)) for case in read(data_dir, name))


def test_prompts_hold_the_rows_text_as_it_is(data_dir: Path) -> None:
    for case in read(data_dir, "test_v1.0_dev.csv.gz"):
        (message,) = messages(case)
        assert case.fields["note"] in message.content
        assert message.content.endswith(case.fields["question"])


def test_the_parity_table_in_the_docs_is_what_the_dev_rows_give(data_dir: Path, repository: Path) -> None:
    table = as_markdown(parity(read(data_dir, "test_v1.0_dev.csv.gz")))
    assert table in (repository / "docs" / "verifier.md").read_text(encoding="utf-8"), (
        f"docs/verifier.md should hold this table:\n{table}"
    )
