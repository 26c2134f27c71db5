"""Ablation of the moves: SFT only, RLVR only, SFT + RLVR, and a planned against an unplanned
warm-up of as many answers.

    python benchmarks/ablation.py --seeds 0 1 2

The synthetic study of `_study.py`: 24 strata, some solid, some misapplied, some missing, a base
model of its own for every seed; what `pilot_predicts.py` left under --out is gone on with. Warm-ups
of as many answers: planned, half of them in the strata that the pilot calls missing and half in the
others; missing only, with a third of them the base's own answers in the others; unplanned, spread
evenly over all strata. Accuracy on 100 held-out cases a stratum at the recipe's temperature, pooled
over seeds with an interval that takes seeds and cases into account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _study import base_and_rlvr, parser_of, run_of, scores_of

from ehrmind.runs import Run
from ehrmind.runs.records import Diagnosis, StageKey, WarmupMark

ANSWERS = 60  # for every missing stratum there is


@dataclass(frozen=True)
class Study:
    """A seed's runs: (stratum, case, right) by arm, strata by kind, (traces, rehearsed) by
    warm-up."""

    arms: Mapping[str, list[tuple[str, str, bool]]]
    kinds: Mapping[str, str]
    answers: Mapping[str, tuple[int, int]]


def one(out: Path, seed: int, steps: int, rlvr_steps: int) -> Study:
    alone = base_and_rlvr(out, seed, steps, rlvr_steps)
    pilot = alone.read_record("pilot.json", Diagnosis)
    assert pilot is not None
    kinds = {stratum: row.kind for stratum, row in pilot.by_stratum.items()}
    answers = ANSWERS * list(kinds.values()).count("missing")
    settings: dict[str, dict[str, Any]] = {
        "planned": {"strata": "missing", "traces_per_stratum": ANSWERS // 2, "rehearsal": 1.0, "rehearse": "worked"},
        "missing_only": {"strata": "missing", "traces_per_stratum": ANSWERS * 2 // 3, "rehearsal": 0.5},
        "unplanned": {"strata": "all", "traces_per_stratum": round(answers / len(scores_of(seed)))},
    }
    found, counts = {"base": _right(alone, "base"), "RLVR only": _right(alone, "rlvr")}, {}
    for name, own in settings.items():
        warmup = {"learning_rate": 1e-3, "epochs": 2, "batch": 16, **own}
        run = run_of(out, seed, steps, name, arms=["sft", "sft_rlvr"], rlvr={"steps": rlvr_steps}, warmup=warmup)
        mark = run.mark("warmup", WarmupMark)
        assert mark is not None
        counts[name] = mark.traces, mark.rehearsed
        found |= {
            f"{said}, {name.replace('_', ' ')}": _right(run, arm)
            for said, arm in (("SFT only", "sft"), ("SFT + RLVR", "sft_rlvr"))
        }
    return Study(found, kinds, counts)


def _right(run: Run, arm: str) -> list[tuple[str, str, bool]]:
    rows = run.rollout_rows(str(StageKey.scoring(arm, "sampled")))
    return [(row.stratum, row.case, row.correct) for row in rows]


def main() -> None:
    from ehrmind.statistics.seeds import over_seeds

    parser = parser_of(__doc__)
    given = parser.parse_args()
    if len(given.seeds) < 2:
        parser.error("one seed has no spread between seeds; name two or more")
    studies = [one(given.out, seed, given.steps, given.rlvr_steps) for seed in given.seeds]
    for seed, study in zip(given.seeds, studies, strict=True):
        said = (
            f"{name.replace('_', ' ')} {traces} + {rehearsed}" for name, (traces, rehearsed) in study.answers.items()
        )
        print(f"seed {seed}, traces + rehearsed: {', '.join(said)}")
    print()
    print("| arm | all strata | solid | misapplied | missing |")
    print("| --- | --- | --- | --- | --- |")
    for arm in studies[0].arms:
        cells = []
        for kinds in (("solid", "misapplied", "missing"), ("solid",), ("misapplied",), ("missing",)):
            chosen = [[row for row in study.arms[arm] if study.kinds[row[0]] in kinds] for study in studies]
            pooled = over_seeds(
                [[float(right) for *_, right in rows] for rows in chosen],
                [[case for _, case, _ in rows] for rows in chosen],
            )
            low, high = pooled["ci95"]
            cells.append(f"{100 * pooled['mean']:.1f} % ({100 * low:.1f} to {100 * high:.1f})")
        print(f"| {arm} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
