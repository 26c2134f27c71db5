"""The tables of `real_model.py`: each arm under three kinds of labels, differences between arms,
reasoning, cost, and the gain that the second pilot predicted.

`stored` are the benchmark's labels. `recomputed` are those of the published formulas on the row's
entities; rows that cannot be computed are left out. `corrected` are those of physicians, for the
rows that have one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ehrmind.config import Recipe, parse_recipe
from ehrmind.data.medcalc import read_medcalc
from ehrmind.data.relabel import recomputed
from ehrmind.runs import Run
from ehrmind.runs.records import HELD_OUT, Accuracy, Comparison, LabelMeasures, Plan, Results, StageKey
from ehrmind.stages.evaluation.baselines import baseline_outcomes
from ehrmind.stages.evaluation.comparison import Outcome, comparison, outcomes
from ehrmind.stages.evaluation.results import scored_arms
from ehrmind.stages.evaluation.variants import thinks
from ehrmind.statistics.calibration import r_squared
from ehrmind.types import Case
from ehrmind.verify.judge import judge

MEDCALC_RUNS = ("medcalc-base", "medcalc-few-shot", "medcalc")
CORRECTED = "test_v1.0_physician_corrected_dev.csv.gz"
BASELINE = "commonest_label"
PAIRS = (("sft_rlvr", "sft"), ("sft_rlvr", "base"), ("sft_rlvr", "rlvr"), ("sft", BASELINE), ("sft_rlvr", BASELINE))
RESAMPLES = 2000
Arms = dict[str, list[Outcome]]


def print_tables(out: Path, medcalc: Path) -> None:
    """Prints what is finished under `out`."""
    runs = [one for name in MEDCALC_RUNS for one in (Run(out / name).seeds() or [Run(out / name)]) if is_finished(one)]
    if runs:
        labels = label_sets(runs[0].load_split("held_out"), medcalc / CORRECTED)
        print_lines(label_tables({kind: arms_of(runs, cases) for kind, cases in labels.items()}))
    print_lines(line for path in sorted(out.iterdir()) if is_finished(Run(path)) for line in run_table(Run(path)))
    print_lines(predicted_gains(out / "medcalc", out / "medcalc-second-pilot"))


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def is_finished(run: Run) -> bool:
    return (run.path / "results.json").is_file()


def label_sets(cases: Sequence[Case], corrections: Path) -> dict[str, dict[str, Case]]:
    """Returns the cases by id with the labels of each kind."""
    fresh, _ = recomputed(cases)
    physicians, _ = read_medcalc(corrections, split="held_out")
    by_row = {str(case.provenance["row"]): case.truth for case in physicians}
    corrected = [replace(case, truth=by_row[row]) for case in cases if (row := str(case.provenance["row"])) in by_row]
    kinds = {"stored": cases, "recomputed": fresh, "corrected": corrected}
    return {kind: {case.id: case for case in found} for kind, found in kinds.items()}


def arms_of(runs: Sequence[Run], labels: Mapping[str, Case]) -> Arms:
    """Judges the answers of several runs by these labels, and the baselines' too. The answers of an
    arm that only one seed has stand for every seed."""
    found: dict[str, dict[int, list[Outcome]]] = defaultdict(dict)
    for run in runs:
        recipe = parse_recipe(run.recipe())
        asked = run.load_split("held_out")
        with_label = [labels[case.id] for case in asked if case.id in labels]
        for name, rows in baseline_outcomes(run, recipe, with_label, HELD_OUT).items():
            found[name][recipe.seed] = rows
        for arm in scored_arms(run, recipe):
            found[arm][recipe.seed] = judged(run, recipe, arm, {case.id: case for case in asked}, labels)
    seeds = sorted({seed for of_seed in found.values() for seed in of_seed})
    return {
        arm: [
            replace(row, seed=seed if len(seeds) > 1 else None)
            for seed in seeds
            for row in of_seed.get(seed, next(iter(of_seed.values())))
        ]
        for arm, of_seed in found.items()
    }


def judged(run: Run, recipe: Recipe, arm: str, asked: Mapping[str, Case], labels: Mapping[str, Case]) -> list[Outcome]:
    rows = run.rollout_rows(str(StageKey.scoring(arm, "greedy")))
    think = thinks(recipe, arm)
    return [
        replace(outcome, case=labels[row.case], ehrmind=judge(labels[row.case], row.text, think=think).correct)
        for row, outcome in zip(rows, outcomes(run, recipe, arm, "greedy", asked), strict=True)
        if row.case in labels
    ]


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


def run_table(run: Run) -> Iterator[str]:
    """Yields a run's arms with their measures, right answers with flawed reasoning and tokens, and
    the run's hours by stage."""
    results = run.read_record("results.json", Results)
    assert results is not None
    seeds = [of_seed for part in run.seeds() if (of_seed := part.read_record("results.json", Results)) is not None]
    yield f"**{run.path.name}** ({run.recipe()['name']})"
    yield ""
    yield "| arm | accuracy | balanced accuracy | macro F1 | κ | AUROC | AUPRC | nDCG@10 | right but flawed | tokens |"
    yield "| --- " * 10 + "|"
    for arm, found in results.arms.items():
        cells = [measure_cells(measures) for measures in found.measures.values()] or [[""] * 6]
        audits = [one.arms[arm].process for one in seeds or [results] if arm in one.arms]
        flawed = [
            audit.right_but_flawed for audit in audits if audit is not None and audit.right_but_flawed is not None
        ]
        said = ", ".join(f"{100 * part.share:.0f} % of {part.n}" for part in flawed)
        yield f"| {arm} | {share(found)} | {' | '.join(cells[0])} | {said} | {found.cost.tokens:,} |"
    hours = {stage: seconds / 3600 for stage, seconds in results.seconds.items()}
    yield ""
    yield f"Hours: {sum(hours.values()):.2f} ({', '.join(f'{stage} {took:.2f}' for stage, took in hours.items())})."
    yield ""


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


def predicted_gains(medcalc: Path, pilots: Path) -> Iterator[str]:
    """Compares the gain of RLVR after SFT with the one that a pilot of the SFT model expected, by
    stratum and seed."""
    predicted, obtained, strata = [], [], []
    for run in Run(medcalc).seeds() or [Run(medcalc)]:
        pilot = Run(pilots / run.path.name)
        if not is_finished(run) or not (pilot.path / "plan.json").is_file():
            continue
        plan = pilot.read_record("plan.json", Plan)
        results = run.read_record("results.json", Results)
        if plan is None or results is None or not {"sft", "sft_rlvr"} <= results.arms.keys():
            continue
        before, after = (results.arms[arm].by_stratum for arm in ("sft", "sft_rlvr"))
        for stratum, expected in plan.expected.rlvr.items():
            if stratum in before:
                predicted.append(expected.gain)
                obtained.append(after[stratum].accuracy - before[stratum].accuracy)
                strata.append(stratum)
    if len(set(obtained)) > 1:
        low, high = np.quantile(list(resampled(predicted, obtained, strata)), [0.025, 0.975])
        yield (
            f"R² of the gain expected by the second pilot: {r_squared(obtained, predicted):.2f}"
            f" ({low:.2f} to {high:.2f}), {len(obtained)} gains in {len(set(strata))} strata; mean expected"
            f" {100 * np.mean(predicted):+.1f} points, obtained {100 * np.mean(obtained):+.1f}."
        )


def resampled(predicted: Sequence[float], obtained: Sequence[float], strata: Sequence[str]) -> Iterator[float]:
    """Draws strata with replacement, with all their seeds, and yields R² of each draw."""
    places = {stratum: [place for place, name in enumerate(strata) if name == stratum] for stratum in set(strata)}
    names, draw = sorted(places), np.random.default_rng(0)
    for _ in range(RESAMPLES):
        chosen = [place for name in draw.choice(names, len(names)) for place in places[str(name)]]
        found = [obtained[place] for place in chosen]
        if len(set(found)) > 1:
            yield r_squared(found, [predicted[place] for place in chosen])
