"""Does the pilot know beforehand? Predicted against obtained gain of RLVR, and the cause named for
every stratum built to fail.

    python benchmarks/pilot_predicts.py --seeds 0 1 2                # figures
    python benchmarks/pilot_predicts.py --fit --seeds 100 101 102    # fits the predictor

The figures use the predictor that ships, in stages/pilot/plan.py.

Each seed has scores, cases and a base model of its own (`_study.py`). The whole is `ehrmind
run`: pilot with interventions, RLVR from the base, evaluation on 100 held-out cases a stratum at
the recipe's temperature. A seed's folder is kept under --out and gone on with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _study import base_and_rlvr, causes_of, parser_of, scores_of

from ehrmind.runs.records import ArmResult, Diagnosis, Gains, Results, StratumDiagnosis


@dataclass(frozen=True)
class Study:
    """A seed's run; `causes` names the cause that each stratum was built to fail by, if any."""

    seed: int
    pilot: Mapping[str, StratumDiagnosis]
    gains: Gains
    arms: Mapping[str, ArmResult]
    causes: Mapping[str, str | None]


def one(out: Path, seed: int, steps: int, rlvr_steps: int, *, causes: bool) -> Study:
    """Runs a seed. The pilot's figures are made anew, so new definitions need no new run."""
    from ehrmind.stages.pilot.diagnosis import diagnose

    run = base_and_rlvr(out, seed, steps, rlvr_steps, causes=causes)
    pilot = run.read_record("pilot.json", Diagnosis)
    gains, results = run.read_record("gains.json", Gains), run.read_record("results.json", Results)
    assert pilot is not None and gains is not None and results is not None
    cases = {case.id: case for case in run.load_cases()["train"]}
    figures = diagnose(run.rollout_rows("pilot"), pilot.samples, cases).by_stratum
    figures = {
        stratum: row.model_copy(update={"cause": pilot.by_stratum[stratum].cause}) for stratum, row in figures.items()
    }
    return Study(seed, figures, gains, results.arms, causes_of(scores_of(seed)))


def with_tool(found: Study) -> tuple[float, float]:
    """Held-out accuracy of the base on the strata whose arithmetic fails, without and with the
    tool."""
    strata = [stratum for stratum, cause in found.causes.items() if cause == "arithmetic"]
    without, with_it = (
        sum(found.arms[arm].by_stratum[stratum].accuracy for stratum in strata) / len(strata)
        for arm in ("base", "base_tool")
    )
    return without, with_it


def named_rightly(found: Study) -> tuple[int, int, list[str]]:
    """(right, strata built to fail and not solid in the pilot, what was named wrongly)"""
    weak = {stratum: row for stratum, row in found.pilot.items() if row.kind != "solid" and found.causes[stratum]}
    wrong = [
        f"{found.causes[stratum]} named {row.cause}"
        for stratum, row in weak.items()
        if row.cause != found.causes[stratum]
    ]
    return len(weak) - len(wrong), len(weak), wrong


def r2(found: Study, kind: str | None = None) -> float:
    """R² of the shipped predictor's expected gains, in strata of one kind or in all."""
    from ehrmind.stages.pilot.plan import expected_gain
    from ehrmind.statistics.calibration import r_squared

    chosen = {name: figures for name, figures in found.pilot.items() if kind in (None, figures.kind)}
    obtained = [found.gains.by_stratum[name].obtained for name in chosen]
    return r_squared(obtained, [expected_gain(figures).gain for figures in chosen.values()])


def fit(studies: Sequence[Study]) -> dict[str, float]:
    """The weights of `plan.expected_gain` by least squares over all strata, and the standard
    deviation of the residuals."""
    from scipy.optimize import curve_fit

    from ehrmind.stages.pilot.plan import headroom_in_reach

    strata = [
        (pilot, study.gains.by_stratum[name].obtained) for study in studies for name, pilot in study.pilot.items()
    ]
    obtained = np.array([gain for _, gain in strata])

    def expected(_: Any, won: float, draws: float) -> Any:
        return np.array([won * headroom_in_reach(pilot, draws) for pilot, _ in strata])

    (won, draws), _ = curve_fit(expected, None, obtained, p0=(0.9, 50.0), bounds=([0, 1], [1, 10_000]))
    rest = obtained - expected(None, won, draws)
    return {"won": round(won, 2), "draws": round(draws, 1), "sd": round(float(rest.std(ddof=2)), 2)}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--fit", action="store_true", help="fit the predictor instead of scoring the one that ships")
    given = parser.parse_args()
    studies = [one(given.out, seed, given.steps, given.rlvr_steps, causes=not given.fit) for seed in given.seeds]
    if given.fit:
        print(json.dumps(fit(studies)))
        return
    print(
        "| seed | strata | solid / misapplied / missing | R² | R² within misapplied | causes named rightly |"
        " arithmetic: base, with tool |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for found in studies:
        kinds = [row.kind for row in found.pilot.values()]
        counts = " / ".join(str(kinds.count(kind)) for kind in ("solid", "misapplied", "missing"))
        right, weak, wrong = named_rightly(found)
        fits = f"{r2(found):.2f} | {r2(found, 'misapplied'):.2f}"
        before, after = with_tool(found)
        said = f" ({'; '.join(wrong)})" if wrong else ""
        print(
            f"| {found.seed} | {len(kinds)} | {counts} | {fits} | {right} of {weak}{said} | {before:.0%}, {after:.0%} |"
        )


if __name__ == "__main__":
    main()
