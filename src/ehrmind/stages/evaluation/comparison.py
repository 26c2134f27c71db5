"""Compares arms: their judged answers become figures side by side, with intervals over patients and
tests over pairs of arms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from ehrmind import tasks
from ehrmind.config import Recipe
from ehrmind.runs import Run
from ehrmind.runs.records import (
    HELD_OUT,
    Accuracy,
    ArmResult,
    BaselineAccuracy,
    Comparison,
    Cost,
    Interval95,
    LabelMeasures,
    PairResult,
    StageKey,
)
from ehrmind.stages.evaluation.pooled_measures import with_means
from ehrmind.stages.evaluation.samples import SAMPLES, label_shares, with_labels
from ehrmind.stages.evaluation.subgroups import SUBGROUPS
from ehrmind.stages.evaluation.variants import thinks
from ehrmind.statistics import benjamini_hochberg, clustered_difference, holm, mean_interval, over_seeds
from ehrmind.types import Case
from ehrmind.verify import judge
from ehrmind.verify.benchmark import KINDS, benchmark_score

SEEDS = "seeds and groups"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer to a held-out case, right or wrong under both scorers. `answer` is as parsed, None
    if malformed; `probabilities` are those of the labels, where there are any. `seed` is the run's
    in a pool of several seeds."""

    case: Case
    stratum: str
    well_formed: bool
    ehrmind: bool
    benchmark: bool
    answer: Any
    probabilities: Sequence[float] | None
    tokens: int
    prompt_tokens: int
    seed: int | None = None

    def right(self, scorer: str) -> bool:
        return self.benchmark if scorer == "benchmark" else self.ehrmind


def outcomes(
    run: Run, recipe: Recipe, arm: str, decoding: str, cases: Mapping[str, Case], where: str = HELD_OUT
) -> list[Outcome]:
    """Reads one arm's outcomes in the order of the held-out cases."""
    think = thinks(recipe, arm)
    shares: Mapping[str, list[float]] = {}
    sampled = str(StageKey.scoring(arm, SAMPLES, where))
    if recipe.evaluate.probabilities == SAMPLES and with_labels(list(cases.values())) and run.rollout_steps(sampled):
        shares = label_shares(run.rollout_rows(sampled), cases, think)
    return [
        Outcome(
            case=cases[row.case],
            stratum=row.stratum,
            well_formed=row.well_formed,
            ehrmind=row.correct,
            benchmark=right_by_benchmark(recipe, cases[row.case], row.text, row.correct),
            answer=judge(cases[row.case], row.text, think=think).answer if row.well_formed else None,
            probabilities=shares.get(row.case, row.probabilities),
            tokens=row.tokens,
            prompt_tokens=row.prompt_tokens,
        )
        for row in run.rollout_rows(str(StageKey.scoring(arm, decoding, where)))
    ]


def right_by_benchmark(recipe: Recipe, case: Case, text: str, ours: bool) -> bool:
    """Scores an answer as the benchmark does. If the benchmark has no rule for the kind of truth,
    ours counts; where the recipe's headline scorer is the benchmark's, `benchmark_score` refuses
    such a case."""
    if case.truth["kind"] not in KINDS and recipe.evaluate.scorer != "benchmark":
        return ours
    return benchmark_score(case, text)


def comparison(
    found: Mapping[str, Sequence[Outcome]],
    scorer: str,
    *,
    train_strata: Collection[str] | None = None,
    baselines: Mapping[str, Sequence[Outcome]] | None = None,
) -> Comparison:
    """Compares all arms, all pairs of them, and each arm with each baseline. With `train_strata`,
    arms also have figures by category, by subgroup, and by whether train has the stratum."""
    compared = Comparison(
        arms={arm: _arm(rows, scorer, train_strata) for arm, rows in found.items()},
        pairs=_corrected(
            {
                f"{second}-{first}": _difference(found[second], found[first], scorer)
                for first, second in combinations(found, 2)
            }
        ),
    )
    if not baselines:
        return compared
    return compared.model_copy(update={"baseline_accuracy": _baseline_accuracy(found, scorer, baselines)})


def _corrected(pairs: Mapping[str, PairResult]) -> dict[str, PairResult]:
    """Adds the p values that are corrected for the number of pairs."""
    p_values = [pair.p for pair in pairs.values()]
    corrected = zip(pairs.items(), holm(p_values), benjamini_hochberg(p_values), strict=True)
    return {
        name: pair.model_copy(update={"p_holm": by_holm, "p_bh": by_rate})
        for (name, pair), by_holm, by_rate in corrected
    }


def _baseline_accuracy(
    found: Mapping[str, Sequence[Outcome]], scorer: str, baselines: Mapping[str, Sequence[Outcome]]
) -> dict[str, BaselineAccuracy]:
    """Returns each baseline's accuracy, and each arm's difference to it on the cases that the
    baseline is made for."""
    there = {name: {(row.seed, row.case.id) for row in rows} for name, rows in baselines.items()}
    differences = {
        name: _corrected(
            {
                arm: _difference([row for row in of_arm if (row.seed, row.case.id) in there[name]], rows, scorer)
                for arm, of_arm in found.items()
            }
        )
        for name, rows in baselines.items()
    }
    return {
        name: BaselineAccuracy(
            **accuracy(rows, scorer).to_dict(),
            unanswered=sum(not row.well_formed for row in rows),
            by_stratum=_accuracies(rows, scorer, lambda row: row.stratum),
            differences=differences[name],
        )
        for name, rows in baselines.items()
    }


def _difference(later: Sequence[Outcome], earlier: Sequence[Outcome], scorer: str) -> PairResult:
    before = {(row.seed, row.case.id): row.right(scorer) for row in earlier}
    a, b = [row.right(scorer) for row in later], [before[row.seed, row.case.id] for row in later]
    pair = PairResult.model_validate(clustered_difference(a, b, [row.case.group for row in later]))
    gains = [float(x) - float(y) for x, y in zip(a, b, strict=True)]
    by_seed = _by_seed(later, gains)
    if len(by_seed) < 2:
        return pair
    groups = [[row.case.group for row, _ in rows] for rows in by_seed]
    seeds = over_seeds([[gain for _, gain in rows] for rows in by_seed], groups, limits=(-1.0, 1.0))
    return PairResult(
        difference=seeds["mean"],
        sd=seeds["sd"],
        ci95=widest(seeds["ci95"], pair.ci95),
        per_seed=seeds["per_seed"],
        p=seeds["p"],
        interval=SEEDS,
    )


def widest(first: Sequence[float], second: Sequence[float]) -> Interval95:
    """Joins two intervals. The one over seeds and patients is never narrower than that over
    patients, which knows what few and equal answers are worth."""
    return min(first[0], second[0]), max(first[1], second[1])


def _by_seed(rows: Sequence[Outcome], values: Sequence[float]) -> list[list[tuple[Outcome, float]]]:
    """Splits outcomes and their values by seed; one list where they are of one run."""
    seeds: dict[int | None, list[tuple[Outcome, float]]] = defaultdict(list)
    for row, value in zip(rows, values, strict=True):
        seeds[row.seed].append((row, value))
    return [seeds[seed] for seed in sorted(seeds, key=str)]


def _arm(rows: Sequence[Outcome], scorer: str, train_strata: Collection[str] | None) -> ArmResult:
    arm = ArmResult(
        **accuracy(rows, scorer).to_dict(),
        unparsed=sum(not row.well_formed for row in rows),
        cost=Cost(tokens=sum(row.tokens for row in rows), prompt_tokens=sum(row.prompt_tokens for row in rows)),
        by_stratum=_accuracies(rows, scorer, lambda row: row.stratum),
    )
    more: dict[str, object] = {}
    if measures := measures_by_task(rows):
        more["measures"] = measures
    if train_strata is not None:
        more["by_category"] = _accuracies(rows, scorer, lambda row: "/".join(row.stratum.split("/")[:2]))
        more["subgroups"] = {name: _accuracies(rows, scorer, _key_of(of)) for name, of in SUBGROUPS.items()}
    if train_strata:
        more["by_seen"] = _accuracies(rows, scorer, lambda row: "seen" if row.stratum in train_strata else "unseen")
    return arm.model_copy(update=more)


def _key_of(subgroup: Callable[[Case], str]) -> Callable[[Outcome], str]:
    return lambda row: subgroup(row.case)


def _accuracies(rows: Sequence[Outcome], scorer: str, key: Callable[[Outcome], str]) -> dict[str, Accuracy]:
    by_key: dict[str, list[Outcome]] = defaultdict(list)
    for row in rows:
        by_key[key(row)].append(row)
    return {name: accuracy(by_key[name], scorer) for name in sorted(by_key)}


def accuracy(rows: Sequence[Outcome], scorer: str) -> Accuracy:
    """Returns the share of right answers with its interval over patients, and over seeds where
    there are several."""
    right, groups = [float(row.right(scorer)) for row in rows], [row.case.group for row in rows]
    correct, interval = int(sum(right)), mean_interval(right, groups)
    figure = Accuracy(
        n=len(rows),
        correct=correct,
        accuracy=correct / max(1, len(rows)),
        ci95=(interval.low, interval.high),
        groups=len(set(groups)),
        interval=interval.method,
    )
    by_seed = _by_seed(rows, right)
    if len(by_seed) < 2:
        return figure
    values = [[value for _, value in of] for of in by_seed]
    seeds = over_seeds(values, [[row.case.group for row, _ in of] for of in by_seed])
    pooled = {"accuracy": seeds["mean"], "ci95": widest(seeds["ci95"], figure.ci95), "interval": SEEDS}
    return figure.model_copy(update={**pooled, "per_seed": tuple(seeds["per_seed"]), "sd": seeds["sd"]})


def measures_by_task(rows: Sequence[Outcome]) -> dict[str, LabelMeasures]:
    """Returns the family's own measures by family/task, for families that have some."""
    by_task: dict[str, list[Outcome]] = defaultdict(list)
    for row in rows:
        by_task[f"{row.case.family}/{row.case.task}"].append(row)
    found = {}
    for name in sorted(by_task):
        whole = _figures(by_task[name])
        if whole is None:
            continue
        seeds = [[row for row, _ in of] for of in _by_seed(by_task[name], [0.0] * len(by_task[name]))]
        of_seeds = [figures for of in seeds if len(seeds) > 1 and (figures := _figures(of)) is not None]
        found[name] = with_means(whole, of_seeds) if of_seeds else whole
    return found


def _figures(rows: Sequence[Outcome]) -> LabelMeasures | None:
    figures = tasks.of(rows[0].case).measures(*columns(rows))
    return LabelMeasures.model_validate(figures) if figures else None


def columns(rows: Sequence[Outcome]) -> tuple[list[Case], list[Any], list[Sequence[float] | None]]:
    """Returns (cases, answers, probabilities of the labels)."""
    return [row.case for row in rows], [row.answer for row in rows], [row.probabilities for row in rows]
