"""The page of a run: sentences, tables and plots in one file that loads nothing from outside.

`report.html` can be shared: it holds figures and ids. The page with text lies under `protected/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ehrmind.config import History
from ehrmind.report.formatting import Table, moment
from ehrmind.report.plots.run_plots import run_plots
from ehrmind.report.reading import Figures, read_run
from ehrmind.report.rendering import render
from ehrmind.report.rollouts import as_json, sampled_rollouts
from ehrmind.report.summary import summary
from ehrmind.report.tables import (
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


def write_report(folder: Path, *, with_text: bool = False) -> list[Path]:
    """Writes `RUN/report.html` and, with text, `RUN/protected/report-with-text.html` (mode 0600);
    returns their paths.

    Raises InputError when the folder is no finished run, or when a page with text is wanted and the
    run holds no text any more.
    """
    run = Run(folder)
    figures = read_run(run)
    browser = _browser(run, figures) if with_text else None  # raises before anything is written
    shown = contents(figures)
    run.put(PAGE, render("page.html", shown).encode())
    if browser is None:
        return [folder / PAGE]
    run.put(f"protected/{PAGE_WITH_TEXT}", render("page.html", shown, browser).encode())
    return [folder / PAGE, run.protected / PAGE_WITH_TEXT]


def contents(figures: Figures) -> dict[str, Any]:
    """Everything that the template shows of a run."""
    scorings = figures.results["held_out_scorings"]
    return {
        "name": figures.recipe.get("name", "run"),
        "seed": figures.recipe.get("seed"),
        "finished": moment(max(scoring["time"] for scoring in scorings)) if scorings else None,
        "version": figures.provenance.get("versions", {}).get("ehrmind"),
        "summary": summary(figures),
        "alarms": learning.alarms(figures),
        "plots": run_plots(figures),
        "tables": {name: made(figures) for name, made in TABLES.items()},
        "recipe": _recipe_text(figures.recipe),
    }


def _recipe_text(recipe: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(without_folders(recipe), sort_keys=False, allow_unicode=True)


def without_folders(tree: Any) -> Any:
    """Cuts absolute paths to their last part: a shared page must not tell where files lie."""
    if isinstance(tree, Mapping):
        return {key: without_folders(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_folders(value) for value in tree]
    return Path(tree).name if isinstance(tree, str) and Path(tree).is_absolute() else tree


def _browser(run: Run, figures: Figures) -> dict[str, Any]:
    """The sampled rollouts that the page with text shows."""
    if parts := run.seeds():
        raise InputError(
            f"{run.path} pools {len(parts)} seeds and holds no text itself; name the run of one seed, such as "
            f"{parts[0].path}."
        )
    history = History.model_validate(figures.recipe.get("prompts", {}).get("history", {}))
    sample = sampled_rollouts(run, figures.recipe.get("seed", 0), history=history)
    return {"shown": len(sample["rollouts"]), "total": sample["total"], "json": as_json(sample)}
