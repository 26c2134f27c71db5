"""MedCalc-Bench's stored answers against the calculators, where the rows are present."""

from __future__ import annotations

from pathlib import Path

import pytest

from ehrmind.data.relabel import Audit, audit_rows

FILES = ("test_v1.0_dev.csv.gz", "train_subset_v1.0.parquet", "one_shot_verified_55.csv.gz")


def audited(data_dir: Path, name: str, convention: str) -> Audit:
    return audit_rows(data_dir / "medcalc-bench" / name, convention)  # type: ignore[arg-type]


def test_the_releases_own_convention_reproduces_its_answers(data_dir: Path) -> None:
    """The one-shot rows are of the Verified release, where seven calculators were mended since."""
    rows = [row for name in FILES for row in audited(data_dir, name, "medcalc").rows]
    assert len(rows) == 1641
    left = {(row.calculator, str(row.row)) for row in rows if not row.agrees}
    assert len(left) / len(rows) < 0.005
    mended = {"child-pugh", "centor", "glasgow-coma-score", "apache-ii", "charlson", "caprini", "framingham-risk"}
    assert {calculator for calculator, _ in left} <= mended, left


def test_every_row_of_the_first_release_is_reproduced(data_dir: Path) -> None:
    for name in FILES[:2]:
        assert [row for row in audited(data_dir, name, "medcalc").rows if not row.agrees] == []


def test_the_verified_convention_gives_every_one_shot_answer(data_dir: Path) -> None:
    audit = audited(data_dir, FILES[2], "medcalc-verified")
    assert len(audit.rows) == 55
    assert [row for row in audit.rows if not row.agrees] == []


@pytest.mark.parametrize("name", FILES)
def test_every_disagreement_with_the_published_formula_has_a_reason(data_dir: Path, name: str) -> None:
    audit = audited(data_dir, name, "published")
    assert all(row.reason for row in audit.rows if not row.agrees)
    assert sum(row.agrees for row in audit.rows) > 0.75 * len(audit.rows)
