"""How far MedCalc-Bench's labels agree with the calculators: its own convention on every row, the published one against physicians.

python benchmarks/label_audit.py [--data ../shared/data/medcalc-bench]
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.labels import agrees, work_case
from ehrmind.calculators.telling import shown
from ehrmind.sources.medcalc import read_medcalc
from ehrmind.sources.relabel import audit_rows
from ehrmind.types import Case

DEV, CORRECTED = "test_v1.0_dev.csv.gz", "test_v1.0_physician_corrected_dev.csv.gz"
FILES = (DEV, "train_subset_v1.0.parquet", "one_shot_verified_55.csv.gz")


def own_convention(folder: Path) -> None:
    print("| rows | convention | agree | of | not computable |")
    print("| --- | --- | --- | --- | --- |")
    left = []
    for name in FILES:
        for convention in ("medcalc", "medcalc-verified", "published"):
            audit = audit_rows(folder / name, convention)
            found = audit.to_dict()
            print(f"| {name} | {convention} | {found['agree']} | {found['rows']} | {found['not_computable']} |")
            if convention == "medcalc":
                left += [(name, row) for row in audit.rows if not row.agrees]
    print("\nEvery row that the medcalc convention does not reproduce:\n")
    for name, row in left:
        print(f"- {name}, row {row.row}, {row.calculator}: stored {row.stored}, computed {row.computed}: {row.reason}")


def against_physicians(folder: Path) -> None:
    """The published convention on the rows that physicians looked at again: agreement with their label, and with the original."""
    original = {case.provenance["row"]: case for case in read_medcalc(folder / DEV, split="held_out")[0]}
    corrected = {case.provenance["row"]: case for case in read_medcalc(folder / CORRECTED, split="held_out")[0]}
    table: dict[str, Counter[str]] = {calculator.slug: Counter() for calculator in CALCULATORS.values()}
    lost = []
    for row, label in sorted(corrected.items()):
        case = original[row]
        counts = table[case.task]
        result, reason = work_case(case)
        counts["rows"] += 1
        if result is None:
            counts["not computable"] += 1
            continue
        with_corrected, with_original = agrees(label.truth, result), agrees(case.truth, result)
        counts["corrected"] += with_corrected
        counts["original"] += with_original
        if not with_corrected:
            lost.append((row, case, label, shown(result.value), "original" if with_original else "neither", reason))
    print("\n| calculator | rows | agrees with the corrected label | with the original label | not computable |")
    print("| --- | --- | --- | --- | --- |")
    total: Counter[str] = Counter()
    for slug, counts in table.items():
        if counts["rows"]:
            print(f"| {slug} | {counts['rows']} | {counts['corrected']} | {counts['original']} | {counts['not computable']} |")
            total += counts
    print(f"| **all** | {total['rows']} | {total['corrected']} | {total['original']} | {total['not computable']} |")
    print("\nRows where ours is not the corrected label, and whether it is the original one:\n")
    for row, case, label, value, which, _ in lost:
        print(f"- row {row}, {case.task}: ours {value}, corrected {_label(label)}, original {_label(case)} (ours is {which})")


def _label(case: Case) -> str:
    return case.provenance["benchmark_answer"]["answer"]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=Path("../shared/data/medcalc-bench"))
    folder = arguments.parse_args().data
    own_convention(folder)
    against_physicians(folder)
