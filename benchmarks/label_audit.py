"""How far MedCalc-Bench's labels agree with the calculators: its own convention on every row, the
published one against physicians.

python benchmarks/label_audit.py [--data ../shared/data/medcalc-bench]
"""

from __future__ import annotations

import argparse
import datetime
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ehrmind.calculators import CALCULATORS, Result
from ehrmind.calculators.entities import inputs_of
from ehrmind.calculators.labels import agrees, entities_of, work_case
from ehrmind.calculators.medicines import MORPHINE_FACTORS
from ehrmind.calculators.telling import shown
from ehrmind.data.medcalc import read_medcalc
from ehrmind.data.relabel import audit_rows
from ehrmind.types import Case

OTHER_OPIOID_FACTORS = {"hydromorphone": 4.0, "tramadol": 0.1}  # CDC 2016; methadone then rose with the dose


def wrenns_delta_gap(inputs: Mapping[str, Any]) -> Any:
    return CALCULATORS[63](**inputs).value - (24 - CALCULATORS[63].inputs[2].read(inputs["bicarbonate"]))  # type: ignore[operator]


def naegele_by_calendar(inputs: Mapping[str, Any]) -> Any:
    """Seven days on, three months back, a year on; and as many days as the cycle differs from
    28."""
    day = CALCULATORS[13].inputs[0].read(inputs["last_period"]) + datetime.timedelta(days=7)
    month = (day.month - 4) % 12 + 1
    due = day.replace(year=day.year + (month < day.month), month=month)
    return due + datetime.timedelta(days=int(inputs.get("cycle_length", 28)) - 28)


def opioids_by_cdc_2016(inputs: Mapping[str, Any]) -> Any:
    total = 0.0
    for name in (key.removesuffix("_dose") for key in inputs if key.endswith("_dose")):
        alone = {key: value for key, value in inputs.items() if key.startswith(f"{name}_dose")}
        now = CALCULATORS[49](**alone).value
        daily = now / MORPHINE_FACTORS[name]  # type: ignore[operator]
        methadone = 4 if daily <= 20 else 8 if daily <= 40 else 10 if daily <= 60 else 12
        total += daily * (methadone if name == "methadone" else OTHER_OPIOID_FACTORS.get(name, MORPHINE_FACTORS[name]))
    return total


def sofa_without_support(inputs: Mapping[str, Any]) -> Any:
    """PaO2 / FiO2 below 200 scores 3 or 4 whether or not breathing is supported."""
    return CALCULATORS[43](**{**inputs, "ventilated": True}).value


ALTERNATIVES: dict[int, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {
    13: ("they count Naegele's rule by calendar months, ours by 280 days (ACOG)", naegele_by_calendar),
    43: ("they score PaO2 / FiO2 below 200 without respiratory support too", sofa_without_support),
    49: ("they take CDC's factors of 2016, ours are those of 2022", opioids_by_cdc_2016),
    63: ("they take Wrenn's delta gap, less the fall of bicarbonate", wrenns_delta_gap),
}
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
    """The published convention on the rows that physicians looked at again: agreement with their
    label, and with the original."""
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
            lost.append(
                (row, case, label, shown(result.value), "original" if with_original else "neither", why(case, label))
            )
    print("\n| calculator | rows | agrees with the corrected label | with the original label | not computable |")
    print("| --- | --- | --- | --- | --- |")
    total: Counter[str] = Counter()
    for slug, counts in table.items():
        if counts["rows"]:
            print(
                f"| {slug} | {counts['rows']} | {counts['corrected']} | {counts['original']} |"
                f" {counts['not computable']} |"
            )
            total += counts
    print(f"| **all** | {total['rows']} | {total['corrected']} | {total['original']} | {total['not computable']} |")
    print("\nRows where ours is not the corrected label, and whether it is the original one:\n")
    for row, case, label, value, which, reason in lost:
        print(
            f"- row {row}, {case.task}: ours {value} ({which}), corrected {_label(label)}, original {_label(case)}:"
            f" {reason}"
        )


def why(case: Case, label: Case) -> str:
    """Names the rule on the same entities that gives the physicians' label, if there is one."""
    number = case.truth["calculator"]
    if number in ALTERNATIVES:
        reason, rule = ALTERNATIVES[number]
        inputs, _ = inputs_of(CALCULATORS[number], entities_of(case), "published")
        if agrees(label.truth, Result(rule(inputs), None, ())):
            return reason
    return "it does not follow from the row's entities: they read the note otherwise"


def _label(case: Case) -> str:
    return case.provenance["benchmark_answer"]["answer"]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=Path("../shared/data/medcalc-bench"))
    folder = arguments.parse_args().data
    own_convention(folder)
    against_physicians(folder)
