"""The page of a run: sentences, tables and plots in one file that loads nothing from outside.

`report.html` can be shared: it holds figures and ids. The page with text lies under `protected/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ehrmind.config import Recipe
from ehrmind.report.formatting import Table, moment
from ehrmind.report.pilot_page import pilot_contents
from ehrmind.report.plots.run_plots import run_plots
from ehrmind.report.reading import Figures, read_pilot, read_run
from ehrmind.report.rendering import Browser, render
from ehrmind.report.rollouts import as_json, sampled_rollouts
from ehrmind.report.shareable import recipe_text
from ehrmind.report.summary import summary
from ehrmind.report.tables import (
    baselines,
    contamination,
    cost,
    deviations,
    endpoints,
    forgetting,
    labels,
    learning,
    licences,
    pilot,
    process_audit,
    provenance,
    results,
    review,
    samples,
    subgroups,
)
from ehrmind.runs import Run
from ehrmind.types import InputError

PAGE, PAGE_WITH_TEXT = "report.html", "report-with-text.html"
# The tables by their name in the template, in the order of the page.
TABLES: Mapping[str, Callable[[Figures], Table | list[Table] | None]] = {
    "arms": results.arms,
    "baselines": baselines.baselines,
    "pairs": results.pairs,
    "endpoints": endpoints.endpoints,
    "transfer": results.transfer,
    "measures": labels.measures,
    "risks": labels.risks,
    "confusion": labels.confusion,
    "seeds": results.seeds,
    "samples": samples.samples,
    "agreement": samples.agreement,
    "bins": samples.bins,
    "coverage": samples.coverage,
    "seen": subgroups.seen,
    "subgroups": subgroups.subgroups,
    "forgetting": forgetting.forgetting,
    "contamination": contamination.contamination,
    "process": process_audit.parts,
    "flaws": process_audit.flaws,
    "review": review.agreement,
    "reviewed_arms": review.by_arm,
    "pilot": pilot.pilot,
    "predicted": pilot.predicted,
    "interventions": pilot.interventions,
    "plan": pilot.plan,
    "gains": pilot.gains,
    "curves": learning.curves,
    "questions": learning.questions,
    "warmup": learning.warmup,
    "teacher": endpoints.teacher,
    "categories": results.by_category,
    "strata": results.by_stratum,
    "cost": cost.by_arm,
    "seconds": cost.by_stage,
    "scorings": provenance.scorings,
    "deviations": deviations.deviations,
    "licences": licences.licences,
    "provenance": provenance.provenance,
}


@dataclass(frozen=True)
class RunPage:
    """Everything that the template shows of a run."""

    name: str
    seed: int
    finished: str | None
    version: str | None
    model: str | None
    summary: list[str]
    alarms: list[str]
    plots: dict[str, str]
    tables: dict[str, Table | list[Table] | None]
    recipe: str


def write_report(folder: Path, *, with_text: bool = False) -> list[Path]:
    """Writes `RUN/report.html` and, with text, `RUN/protected/report-with-text.html` (mode 0600);
    returns their paths. The page of a run of which only a pilot was asked is the pilot's.

    Raises InputError when the folder is no finished run, or when a page with text is wanted and the
    run holds no text any more.
    """
    run = Run(folder)
    found = read_pilot(run) or read_run(run)
    browser = _browser(run, found.recipe) if with_text else None  # raises before anything is written
    if isinstance(found, Figures):
        page = partial(render, "page.html", contents(found))
    else:
        page = partial(render, "pilot.html", pilot_contents(run, found))
    run.put(PAGE, page().encode())
    if browser is None:
        return [folder / PAGE]
    run.put(f"protected/{PAGE_WITH_TEXT}", page(browser).encode())
    return [folder / PAGE, run.protected / PAGE_WITH_TEXT]


def contents(figures: Figures) -> RunPage:
    times = [scoring.time for scoring in figures.results.held_out_scorings]
    return RunPage(
        name=figures.recipe.name,
        seed=figures.recipe.seed,
        finished=moment(max(times)) if times else None,
        version=figures.provenance.versions.get("ehrmind") if figures.provenance else None,
        model=figures.provenance.model.name if figures.provenance else None,
        summary=summary(figures),
        alarms=learning.alarms(figures),
        plots=run_plots(figures),
        tables={name: table(figures) for name, table in TABLES.items()},
        recipe=recipe_text(figures.recipe),
    )


def _browser(run: Run, recipe: Recipe) -> Browser:
    """The sampled rollouts that the page with text shows."""
    if parts := run.seeds():
        raise InputError(
            f"{run.path} pools {len(parts)} seeds and holds no text itself; name the run of one seed, such as "
            f"{parts[0].path}."
        )
    sample = sampled_rollouts(run, recipe.seed, history=recipe.prompts.history)
    return Browser(len(sample["rollouts"]), sample["total"], as_json(sample))
