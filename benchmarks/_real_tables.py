"""The tables of `real_model.py`, from the records of its runs: each arm under three kinds of
labels, differences between arms, reasoning, cost, and the gain that the second pilot predicted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from _real_records import ArmRecord, StudyRecord, outcomes_of

from ehrmind.config.arms import split_arm
from ehrmind.runs.records import Accuracy, Comparison, LabelMeasures
from ehrmind.stages.evaluation.comparison import Outcome, accuracy, comparison
from ehrmind.statistics.calibration import r_squared

MAIN, SECOND_PILOT = "medcalc", "medcalc-second-pilot"
COMPARED = (MAIN, "medcalc-base", "medcalc-few-shot", "medcalc-rlvr")  # parts whose arms stand in one table
BASELINE = "commonest_label"
PAIRS = (("sft_rlvr", "sft"), ("sft_rlvr", "base"), ("sft_rlvr", "rlvr"), ("sft", BASELINE), ("sft_rlvr", BASELINE))
RESAMPLES = 2000
Arms = dict[str, list[Outcome]]


def tables(records: Sequence[StudyRecord]) -> Iterator[str]:
    """Yields the lines of all tables."""
    by_name = {name: list(of_part) for name, of_part in groupby(records, key=lambda record: record.part)}
    compared = [record for name in COMPARED for record in by_name.get(name, [])]
    if compared:
        yield from label_tables({kind: pooled(compared, kind) for kind in ("stored", "recomputed", "corrected")})
    for name, of_part in by_name.items():
        if name != SECOND_PILOT:
            yield from part_table(name, of_part)
    yield from predicted_gains(by_name.get(MAIN, []), by_name.get(SECOND_PILOT, []))


def pooled(records: Sequence[StudyRecord], kind: str) -> Arms:
    """Joins the arms of several parts and seeds, on the cases that all arms of a seed have. The
    answers of an untrained arm stand for every seed; a trained arm that lacks a seed of the main
    part is left out."""
    by_arm: dict[str, dict[int, list[Outcome]]] = defaultdict(dict)
    for record in records:
        for name, arm in {**record.baselines, **record.arms}.items():
            by_arm[name].setdefault(record.seed, outcomes_of(record, arm, kind))
    seeds = sorted({record.seed for record in records if record.part == MAIN} or {record.seed for record in records})
    trained = {arm for record in records for arm in record.arms if split_arm(arm)[0] != "base"}
    found = {name: of_seed for name, of_seed in by_arm.items() if name not in trained or of_seed.keys() >= set(seeds)}
    arms: Arms = {name: [] for name in found}
    for seed in seeds:
        rows = {name: of_seed.get(seed, next(iter(of_seed.values()))) for name, of_seed in found.items()}
        shared = set.intersection(*({row.case.id for row in of_arm} for of_arm in rows.values()))
        for name, of_arm in rows.items():
            arms[name] += [
                replace(row, seed=seed if len(seeds) > 1 else None) for row in of_arm if row.case.id in shared
            ]
    return arms


def label_tables(arms_by_kind: Mapping[str, Arms]) -> Iterator[str]:
    compared = {kind: comparison(arms, "ehrmind") for kind, arms in arms_by_kind.items()}
    arms = next(iter(compared.values())).arms
    yield f"| arm | {' | '.join(compared)} | malformed |"
    yield "| --- | --- | --- | --- | --- |"
    for arm in arms:
        cells = [found.arms[arm] for found in compared.values()]
        yield f"| {arm} | {' | '.join(map(share, cells))} | {100 * cells[0].unparsed / cells[0].n:.0f} % |"
    yield ""
    yield f"| difference in points | {' | '.join(compared)} |"
    yield "| --- | --- | --- | --- |"
    for later, earlier in PAIRS:
        if later in arms and earlier in arms:
            yield f"| {later} − {earlier} | {' | '.join(gain(found, later, earlier) for found in compared.values())} |"
    yield ""


def share(cell: Accuracy) -> str:
    low, high = cell.ci95
    return f"{100 * cell.accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def gain(found: Comparison, later: str, earlier: str) -> str:
    """Writes a difference with its interval, whichever of the two arms was read first."""
    pair = found.pairs.get(f"{later}-{earlier}")
    if pair is not None:
        value, low, high = pair.difference, *pair.ci95
    else:
        pair = found.pairs[f"{earlier}-{later}"]
        value, high, low = -pair.difference, *(-end for end in pair.ci95)
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def part_table(name: str, records: Sequence[StudyRecord]) -> Iterator[str]:
    """Yields a part's arms with their measures by stored labels, right answers with flawed
    reasoning and tokens, then the transfer sets and the hours of each seed."""
    yield f"**{name}** ({', '.join(sorted({record.name for record in records}))})"
    yield ""
    yield "| arm, seed | accuracy | balanced | macro F1 | κ | AUROC | AUPRC | nDCG@10 | right but flawed | tokens |"
    yield "| --- " * 10 + "|"
    for record in records:
        for arm, found in {**record.baselines, **record.arms}.items():
            scored = accuracy(outcomes_of(record, found, "stored"), "ehrmind")
            cells = [measure_cells(measures) for measures in found.measures.values()] or [[""] * 6]
            said = f"{' | '.join(cells[0])} | {flawed(found)} | {found.tokens:,}"
            yield f"| {arm}, {record.seed} | {share(scored)} | {said} |"
    yield ""
    for record in records:
        for other, arms in record.transfer.items():
            said = ", ".join(f"{arm} {100 * value:.0f} %" for arm, value in arms.items())
            yield f"Seed {record.seed} on {other}: {said}."
    for record in records:
        said = ", ".join(f"{stage} {took:.2f}" for stage, took in record.hours.items() if took >= 0.005)
        yield f"Seed {record.seed}, {record.date}: {sum(record.hours.values()):.2f} hours ({said})."
    yield ""


def flawed(arm: ArmRecord) -> str:
    found = None if arm.process is None else arm.process.right_but_flawed
    return "" if found is None else f"{100 * found.share:.0f} % of {found.n}"


def measure_cells(measures: LabelMeasures) -> list[str]:
    risk, ranking = measures.risk, measures.ranking
    values = [measures.balanced_accuracy, measures.macro_f1, measures.kappa]
    intervals = {} if risk is None else risk.ci95
    risks = [
        "" if risk is None or value is None else f"{value:.3f}{interval(intervals.get(name))}"
        for name, value in (("auroc", risk and risk.auroc), ("auprc", risk and risk.auprc))
    ]
    return [*(f"{value:.3f}" for value in values), *risks, "" if ranking is None else f"{ranking.ndcg_at_10:.3f}"]


def interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" ({ends[0]:.2f} to {ends[1]:.2f})"


def predicted_gains(runs: Sequence[StudyRecord], pilots: Sequence[StudyRecord]) -> Iterator[str]:
    """Compares the gain of RLVR after SFT with the one that a pilot of the SFT model expected, by
    stratum and seed, under recomputed labels."""
    expected_of = {pilot.seed: pilot.expected for pilot in pilots}
    predicted, obtained, strata = [], [], []
    for record in runs:
        before, after = (by_stratum(record, arm) for arm in ("sft", "sft_rlvr"))
        for stratum, expected in expected_of.get(record.seed, {}).items():
            if stratum in before and stratum in after:
                predicted.append(expected)
                obtained.append(after[stratum] - before[stratum])
                strata.append(stratum)
    if len(set(obtained)) > 1:
        low, high = np.quantile(list(resampled(predicted, obtained, strata)), [0.025, 0.975])
        yield (
            f"R² of the gain expected by the second pilot: {r_squared(obtained, predicted):.2f}"
            f" ({low:.2f} to {high:.2f}), {len(obtained)} gains in {len(set(strata))} strata; mean expected"
            f" {100 * np.mean(predicted):+.1f} points, obtained {100 * np.mean(obtained):+.1f}."
        )


def by_stratum(record: StudyRecord, arm: str) -> dict[str, float]:
    if arm not in record.arms:
        return {}
    rights: dict[str, list[bool]] = defaultdict(list)
    for row in outcomes_of(record, record.arms[arm], "recomputed"):
        rights[row.stratum].append(row.ehrmind)
    return {stratum: float(np.mean(right)) for stratum, right in rights.items()}


def resampled(predicted: Sequence[float], obtained: Sequence[float], strata: Sequence[str]) -> Iterator[float]:
    """Draws strata with replacement, with all their seeds, and yields R² of each draw."""
    places = {stratum: [place for place, name in enumerate(strata) if name == stratum] for stratum in set(strata)}
    names, draw = sorted(places), np.random.default_rng(0)
    for _ in range(RESAMPLES):
        chosen = [place for name in draw.choice(names, len(names)) for place in places[str(name)]]
        found = [obtained[place] for place in chosen]
        if len(set(found)) > 1:
            yield r_squared(found, [predicted[place] for place in chosen])
