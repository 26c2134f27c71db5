"""Recomputes MedCalc-Bench labels from each row's entities by the published formulas.

The results are an audit, a corrected copy of the file, or corrected Cases. At least a quarter of
the benchmark's labels are in doubt (arXiv 2512.19691). A row's "Relevant Entities" are the values
read from its note, so its label can be checked without a model. Whether the entities themselves are
correct is not checked.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from ehrmind.calculators import CALCULATORS, Calculator, Convention, Deviation, Result
from ehrmind.calculators.catalogue import CATALOGUE
from ehrmind.calculators.entities import work_entities
from ehrmind.calculators.inputs import unquoted
from ehrmind.calculators.labels import agrees, entities_of, truth_of, work_case
from ehrmind.calculators.telling import formula_first, shown
from ehrmind.calculators.working import Value
from ehrmind.data.answers import ANSWER, LOWER, UPPER
from ehrmind.data.cases import Counts
from ehrmind.data.cells import is_number, number
from ehrmind.data.files import read_table
from ehrmind.data.identity import record_key
from ehrmind.data.medcalc import ENTITIES, EXPLANATION, ROW_IDS, decimal_marks, read_medcalc
from ehrmind.files import clear_leftovers, write_private
from ehrmind.types import Case, InputError

AUDIT = "Audit"  # column added to the corrected copy


@dataclass(frozen=True, slots=True)
class Audited:
    """Result for one row: stored and computed answer (None: not computable), and why they differ.

    `row` is the row's id, `place` its number in the file. `reason` may hold values of the row and
    goes into the corrected copy only. `kind` says the same without values, for a terminal or a log.
    """

    row: int | str
    place: int
    calculator: str
    stored: str
    computed: str | None
    agrees: bool
    reason: str | None
    kind: str | None


@dataclass(frozen=True, slots=True)
class Audit:
    convention: Convention
    rows: tuple[Audited, ...]
    counts: Counts

    @property
    def by_calculator(self) -> dict[str, tuple[int, int]]:
        """Mapping of each calculator to (rows that agree, rows)."""
        total = Counter(row.calculator for row in self.rows)
        good = Counter(row.calculator for row in self.rows if row.agrees)
        return {name: (good[name], total[name]) for name in sorted(total)}

    def lines(self) -> Iterator[str]:
        """Yields the audit as lines to print. Values of rows are only in the corrected copy."""
        good, computed = sum(row.agrees for row in self.rows), sum(row.computed is not None for row in self.rows)
        yield f"{good:,} of {len(self.rows):,} labels agree with the {self.convention} convention"
        yield f"{len(self.rows) - computed:,} cannot be computed"
        yield from (f"left out {count:,}: {reason}" for reason, count in self.counts.left_out.items())
        yield f"{'calculator':<32} {'agree':>7} {'rows':>6}"
        yield from (f"{name:<32} {agree:>7} {total:>6}" for name, (agree, total) in self.by_calculator.items())
        for row in self.rows:
            if not row.agrees:
                yield f"row {row.place}, {row.calculator}: {row.kind}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "convention": self.convention,
            "rows": len(self.rows),
            "agree": sum(row.agrees for row in self.rows),
            "not_computable": sum(row.computed is None for row in self.rows),
            "by_calculator": {
                name: {"agree": good, "rows": total} for name, (good, total) in self.by_calculator.items()
            },
            "disagreements": [
                {
                    "row": row.place,
                    "calculator": row.calculator,
                    "computable": row.computed is not None,
                    "reason": row.kind,
                }
                for row in self.rows
                if not row.agrees
            ],
            "left_out": dict(self.counts.left_out),
        }


def audit_rows(file: Path | str, convention: Convention = "published") -> Audit:
    """Recomputes every row that has an answer.

    Raises InputError for a file that is not MedCalc-Bench or has no entities.
    """
    cases, counts = read_medcalc(file, split="held_out")
    if not any("entities" in case.provenance for case in cases):
        raise InputError(f"{file} has no column '{ENTITIES}', so there is nothing to recompute its labels from.")
    return Audit(convention, tuple(_audited(case, convention) for case in cases), counts)


def write_corrected(file: Path | str, audit: Audit, out: Path) -> None:
    """Writes a copy with recomputed answers, limits and explanations, and a column `Audit`.

    Decimal commas of answers and limits become points, because the copy's columns are separated by
    commas and recomputed numbers have points.
    """
    table = read_table(Path(file))
    commas = [column for column, mark in decimal_marks(table, str(file)).items() if mark == "comma"]
    for row, column in product(table.rows, commas):
        row[column] = str(number(row[column], "comma")) if is_number(row[column]) else row[column]
    by_row = {record_key(str(row.row)): row for row in audit.rows}
    id_column = next(column for column in ROW_IDS if column in table.columns)
    rows = [_corrected(row, by_row.get(record_key(row[id_column])), audit.convention) for row in table.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*table.columns, AUDIT], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    raw = text.getvalue().encode()
    clear_leftovers(out.parent)
    write_private(out, gzip.compress(raw, mtime=0) if out.name.endswith(".gz") else raw)


def recomputed(cases: Sequence[Case]) -> tuple[list[Case], dict[str, int]]:
    """Recomputes labels and worked answers of Cases by the published formulas.

    Cases that cannot be computed are left out and counted.
    """
    kept: list[Case] = []
    counts: Counter[str] = Counter()
    for case in cases:
        result, reason = work_case(case)
        if result is None:
            counts[f"left out: {reason}"] += 1
            continue
        calculator = CALCULATORS[case.truth["calculator"]]
        if agrees(case.truth, result):
            counts["label kept"] += 1
            kept.append(case)
            continue
        counts["label changed"] += 1
        truth = truth_of(CATALOGUE[calculator.id], result) | {
            key: case.truth[key] for key in ("unit",) if key in case.truth
        }
        kept.append(replace(case, truth=truth, rationale=formula_first(calculator, result)))
    return kept, dict(counts)


def _audited(case: Case, convention: Convention) -> Audited:
    calculator = CALCULATORS[case.truth["calculator"]]
    found = partial(
        Audited,
        case.provenance["row"],
        case.provenance["cell"]["row"],
        calculator.slug,
        case.provenance["benchmark_answer"]["answer"],
    )
    if "entities" not in case.provenance:
        return found(None, False, why := "not computable: the row has no entities", why)
    try:
        result = work_entities(calculator, entities_of(case), convention)
    except InputError as error:
        return found(None, False, f"not computable: {error}", f"not computable: {unquoted(error)}")
    if agrees(case.truth, result):
        return found(shown(result.value), True, None, None)
    return found(shown(result.value), False, *_why(calculator, case, result))


RELEASES: dict[Convention, str] = {"medcalc": "MedCalc-Bench v1.0", "medcalc-verified": "MedCalc-Bench Verified"}


def _why(calculator: Calculator, case: Case, ours: Result) -> tuple[str, str]:
    """Finds the release whose deviations give the stored answer: (reason, same without values)."""
    entities = entities_of(case)
    also = []
    for convention, release in RELEASES.items():
        theirs = _value(calculator, calculator.deviations_of(convention), entities, convention)
        if theirs is None:
            continue
        if agrees(case.truth, replace(ours, value=theirs)):
            plain = _value(calculator, (), entities, convention)
            own = calculator.deviations_of(convention)
            moved = [found.what for found in own if _value(calculator, (found,), entities, convention) != plain]
            default = (
                "unit conversions are rounded on the way"
                if convention == "medcalc"
                else "it follows the publication here"
            )
            return (why := f"{release}: {'; '.join(moved) or default}"), why
        also.append(f"{release}'s way gives {shown(theirs)}")
    releases = " and ".join(also) or "no release computes them"
    none = "the stored answer follows from none"
    kind = (
        f"no release's way computes the entities; {none}"
        if not also
        else f"the entities give another value; {none} of the releases' ways"
    )
    return f"the entities give {shown(ours.value)}; {releases}; {none}", kind


def _value(
    calculator: Calculator, deviations: tuple[Deviation, ...], entities: Mapping[str, Any], convention: Convention
) -> Value | None:
    """Computes a release's value with only these of its deviations; None if not computable."""
    try:
        return work_entities(replace(calculator, deviations=deviations), entities, convention).value
    except InputError:
        return None


def _corrected(row: Mapping[str, str], audited: Audited | None, convention: Convention) -> dict[str, str]:
    if audited is None:
        return {**row, AUDIT: "no answer to check"}
    if audited.agrees or audited.computed is None:
        return {**row, AUDIT: "agrees" if audited.agrees else str(audited.reason)}
    calculator = CALCULATORS[audited.calculator]
    result = work_entities(calculator, ast.literal_eval(row[ENTITIES].strip()), convention)
    truth = truth_of(CATALOGUE[calculator.id], result)
    answer = benchmark_answer(truth)
    changed = {ANSWER: answer, LOWER: str(truth.get("low", answer)), UPPER: str(truth.get("high", answer))}
    if EXPLANATION in row:
        changed[EXPLANATION] = formula_first(calculator, result)
    return {**row, **changed, AUDIT: f"was {audited.stored}: {audited.reason}"}


def benchmark_answer(truth: Mapping[str, Any]) -> str:
    """Formats a truth as MedCalc-Bench writes its answers."""
    if truth["kind"] == "date":
        year, month, day = truth["value"].split("-")
        return f"{month}/{day}/{year}"
    if truth["kind"] == "weeks_days":
        return str((f"{truth['weeks']} weeks", f"{truth['days']} days"))
    return str(truth["value"])
