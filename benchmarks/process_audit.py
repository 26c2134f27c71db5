"""The process audit on right rationales, and on rationales with one known error: how many steps
pass, how many errors are found and where.

python benchmarks/process_audit.py [--data ../shared/data/medcalc-bench] [--made-up 220] [--seed 0]
[--mistakes] [--missed N]
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from _reasoning_errors import KINDS, Corrupted, Place, corrupt

from ehrmind.calculators.telling import STYLES
from ehrmind.data.medcalc import read_medcalc
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.process_audit import PARTS, ProcessAudit, audit, thinking_of
from ehrmind.prompts import gold_response
from ehrmind.statistics import wilson
from ehrmind.types import Case

# The audit was made while looking at explanations of the first; the second's were not looked at.
FILES = {"MedCalc-Bench dev rows": "test_v1.0_dev.csv.gz", "MedCalc-Bench train rows": "train_subset_v1.0.parquet"}


def corrupted_of(case: Case, kind: str, seed: int, before: ProcessAudit) -> Corrupted | None:
    """The case's gold response with one error of a kind in its thinking, where nothing was wrong
    before."""
    gold = gold_response(case)
    thinking, start = thinking_of(gold)
    avoid = [
        Place(found.start - start, found.end - start)
        for found in before.findings
        if found.start is not None and found.end is not None
    ]
    made = corrupt(kind, thinking, random.Random(f"{seed}:{case.id}:{kind}"), avoid)
    if made is None:
        return None
    text = gold[:start] + made.text + gold[start + len(thinking) :]
    return Corrupted(kind, text, made.start + start, made.end + start)


def finds(case: Case, made: Corrupted, before: ProcessAudit) -> tuple[bool, bool]:
    """(a finding names the place, something is found that was not found before)."""
    after = audit(case, made.text)
    named = any(
        f.start is not None and f.end is not None and f.start < made.end and made.start < f.end for f in after.findings
    )
    return named, Counter(f.what for f in after.findings) != Counter(f.what for f in before.findings)


def gold_table(sources: dict[str, Sequence[Case]]) -> dict[str, list[ProcessAudit]]:
    print("| rationales | cases | " + " | ".join(PARTS) + " | ms an audit |")
    print("| --- |" + " --- |" * (len(PARTS) + 2))
    audits = {}
    for name, cases in sources.items():
        begin = time.perf_counter()
        audits[name] = [audit(case, gold_response(case)) for case in cases]
        spent = (time.perf_counter() - begin) / max(1, len(cases))
        cells = []
        for part in PARTS:
            looked = [found for one in audits[name] if (found := one.parts[part]) is not None]
            checked, passed = sum(part.checked for part in looked), sum(part.passed for part in looked)
            cells.append(f"{passed:,} of {checked:,} ({100 * passed / checked:.1f} %)" if checked else "–")
        print(f"| {name} | {len(cases)} | {' | '.join(cells)} | {1000 * spent:.1f} |")
    return audits


def corruption_tables(
    sources: dict[str, Sequence[Case]], audits: dict[str, list[ProcessAudit]], seed: int, missed: int
) -> None:
    by_kind: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    by_family: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    without: Counter[tuple[str, str]] = Counter()
    misses: list[tuple[str, str, str, str]] = []
    for name, cases in sources.items():
        for case, before in zip(cases, audits[name], strict=True):
            for kind in KINDS:
                made = corrupted_of(case, kind, seed, before)
                if made is None:
                    without[name, kind] += 1
                    continue
                found = finds(case, made, before)
                by_kind[name, kind].append(found)
                by_family[name, case.stratum.split("/")[1]].append(found)
                if not found[0]:
                    misses.append(
                        (
                            name,
                            kind,
                            case.task,
                            made.text[max(0, made.start - 50) : made.start]
                            + ">>"
                            + made.text[made.start : made.end]
                            + "<<",
                        )
                    )
    _print("kind", list(KINDS), sources, by_kind)
    _print("calculators", sorted({family for _, family in by_family}), sources, by_family)
    print(f"\nno place for the error, by kind: {dict(sorted(sum_of(without).items()))}")
    random.Random(seed).shuffle(misses)
    for miss in misses[:missed]:
        print("missed:", *miss, sep=" | ")


def sum_of(counts: Counter[tuple[str, str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for (_, kind), count in counts.items():
        total[kind] += count
    return total


def _print(
    title: str, rows: Iterable[str], sources: Iterable[str], found: dict[tuple[str, str], list[tuple[bool, bool]]]
) -> None:
    print(f"\n| {title} | " + " | ".join(sources) + " | all |")
    print("| --- |" + " --- |" * (len(list(sources)) + 1))
    for row in [*rows, "all"]:
        cells = [
            [one for kind in (rows if row == "all" else [row]) for one in found.get((name, kind), [])]
            for name in sources
        ]
        print(
            f"| {row} | " + " | ".join(share(cell) for cell in [*cells, [one for cell in cells for one in cell]]) + " |"
        )


def share(found: list[tuple[bool, bool]]) -> str:
    if not found:
        return "–"
    named = sum(place for place, _ in found)
    low, high = wilson(named, len(found))
    return f"{100 * named / len(found):.1f} % of {len(found)} ({100 * low:.0f} to {100 * high:.0f})"


def mistakes(cases: Sequence[Case], audits: Sequence[ProcessAudit]) -> None:
    """Findings of the audit in right rationales, by calculator; most are mistakes of the texts."""
    found: Counter[tuple[str, str, str]] = Counter()
    rows: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for case, one in zip(cases, audits, strict=True):
        for finding in one.findings:
            key = (case.task, finding.part, finding.what)
            found[key] += 1
            rows[key].add(case.id)
    print("\n| calculator | part | what | times | rationales |\n| --- | --- | --- | --- | --- |")
    for key, times in sorted(found.items(), key=lambda row: (row[0][1] != "arithmetic", -row[1])):
        print(f"| {' | '.join(key)} | {times} | {len(rows[key])} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data/medcalc-bench"))
    parser.add_argument("--made-up", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mistakes", action="store_true", help="list what is found in the benchmark's own rationales")
    parser.add_argument("--missed", type=int, default=0, help="show so many errors that were not found, text included")
    given = parser.parse_args()
    sources: dict[str, Any] = {}
    for name, file in FILES.items():
        if (given.data / file).is_file():
            sources[name] = read_medcalc([given.data / file], split="held_out")[0]
    sources |= {
        f"made up, {style}": synthetic_cases(given.synthetic, 100 + given.seed, "held_out", styles=[style])
        for style in STYLES
    }
    audits = gold_table(sources)
    corruption_tables(sources, audits, given.seed, given.missed)
    for name in FILES.keys() & sources.keys() if given.mistakes else ():
        print(f"\n{name}")
        mistakes(sources[name], audits[name])


if __name__ == "__main__":
    main()
