"""The page: tables, plots and one sentence, in one file that asks for nothing outside itself.

`report.html` is shareable: figures and ids. The page with text is written under `protected/`, for the owner's eyes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ehrmind.config import History
from ehrmind.report.formatting import arm_name, interval, p_value, percent, points
from ehrmind.report.reading import Figures, read_run
from ehrmind.report.rendering import render
from ehrmind.report.tables import endpoints as endpoint_tables
from ehrmind.report.tables import evaluation as evaluation_tables
from ehrmind.report.tables import labels as label_tables
from ehrmind.report.tables import overview as tables
from ehrmind.report.tables import pilot as pilot_tables
from ehrmind.report.tables import process as process_tables
from ehrmind.report.tables import provenance as origin_tables
from ehrmind.report.tables import rlvr as rlvr_tables
from ehrmind.runs import Run
from ehrmind.types import InputError

PAGE, PAGE_WITH_TEXT = "report.html", "report-with-text.html"


def write_report(folder: Path, *, with_text: bool = False) -> list[Path]:
    """Write `RUN/report.html` and, if asked, `RUN/protected/report-with-text.html` (mode 0600); returns what was written.

    Raises InputError when the folder is no finished run, or when text is asked for and the run holds none any more.
    """
    run = Run(folder)
    figures = read_run(run)
    browser = _browser(run, figures) if with_text else None  # before anything is written
    shown = contents(figures)
    run.put(PAGE, render("page.html", shown).encode())
    if browser is None:
        return [folder / PAGE]
    run.put(f"protected/{PAGE_WITH_TEXT}", render("page.html", shown, browser).encode())
    return [folder / PAGE, run.protected / PAGE_WITH_TEXT]


def contents(figures: Figures) -> dict[str, Any]:
    """Everything the template shows of a run."""
    from ehrmind.report.plots.evaluation import evaluation_plots
    from ehrmind.report.plots.heat import heat_plots
    from ehrmind.report.plots.overview import plots

    scorings = figures.results["held_out_scorings"]
    return {
        "name": figures.recipe.get("name", "run"),
        "seed": figures.recipe.get("seed"),
        "finished": tables.moment(max(scoring["time"] for scoring in scorings)) if scorings else None,
        "version": figures.provenance.get("versions", {}).get("ehrmind"),
        "summary": summary(figures),
        "alarms": rlvr_tables.alarms(figures),
        "plots": {**plots(figures), **evaluation_plots(figures), **heat_plots(figures)},
        "tables": {
            "arms": tables.arms(figures),
            "pairs": tables.pairs(figures),
            "endpoints": endpoint_tables.endpoints(figures),
            "transfer": label_tables.transfer(figures),
            "measures": label_tables.measures(figures),
            "risks": label_tables.risks(figures),
            "confusion": label_tables.confusion(figures),
            "pilot": pilot_tables.pilot(figures),
            "interventions": pilot_tables.interventions(figures),
            "plan": pilot_tables.plan(figures),
            "gains": pilot_tables.gains(figures),
            "foretold": pilot_tables.foretold(figures),
            "curves": tables.curves(figures),
            "questions": rlvr_tables.questions(figures),
            "warmup": tables.warmup(figures),
            "teacher": endpoint_tables.teacher(figures),
            "categories": tables.by_category(figures),
            "strata": tables.by_stratum(figures),
            **evaluation_tables.evaluation(figures),
            **process_tables.process(figures),
            **origin_tables.origin(figures),
            "provenance": tables.provenance(figures),
            "seconds": tables.seconds(figures),
            "scorings": tables.scorings(figures),
        },
        "recipe": _recipe_text(figures.recipe),
    }


def summary(figures: Figures) -> list[str]:
    """What the run found, in a sentence or two."""
    arms = figures.results["arms"]
    best = next((arm for arm in ("sft_rlvr", "rlvr", "sft") if arm in arms), next(iter(arms)))
    other = next((arm for arm in ("sft", "base", *arms) if arm in arms and arm != best), None)
    found = arms[best]
    said = (
        f"{arm_name(best)} answers {percent(found['accuracy'])} of {found['n']:,} held-out cases right "
        f"(95 % interval {interval(found['ci95'])}, {figures.results['decoding']} decoding)"
    )
    pair = figures.results["pairs"].get(f"{best}-{other}")
    if other is not None and pair is not None:
        said += (
            f", {arm_name(other)} {percent(arms[other]['accuracy'])}: a difference of {points(pair['difference'])} points "
            f"({interval(pair['ci95'])}, {p_value(pair['p'])})"
        )
    return [f"{said}.", *_pilot_sentence(figures), *evaluation_tables.sentences(figures.results)]


def _pilot_sentence(figures: Figures) -> list[str]:
    if figures.pilot is None:
        return []
    strata, k = figures.pilot["by_stratum"], figures.pilot["samples"]
    missing = [stratum for stratum, row in strata.items() if row["kind"] == "missing"]
    if not missing:
        return [f"In the pilot the base model had a right answer among {k} samples in each of {len(strata)} strata."]
    there = ""
    if "rlvr" in figures.results["arms"] and (shares := tables.pooled(figures, "rlvr", missing))["n"]:
        there = f"; RLVR alone reaches {percent(shares['accuracy'])} there ({interval(shares['ci95'])})"
    strata_said = f"{len(missing)} of {len(strata)} strata"
    hardly = "hardly a sample" if any(strata[stratum]["correct"] for stratum in missing) else "no sample"
    return [
        f"In the pilot {hardly} of the base model was right in {strata_said}, so that reinforcement had nothing to reinforce{there}."
    ]


def _recipe_text(recipe: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(without_folders(recipe), sort_keys=False, allow_unicode=True)


def without_folders(tree: Any) -> Any:
    """Absolute paths cut to their last part: a page that is passed on should not tell where things lie."""
    if isinstance(tree, Mapping):
        return {key: without_folders(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_folders(value) for value in tree]
    return Path(tree).name if isinstance(tree, str) and Path(tree).is_absolute() else tree


def _browser(run: Run, figures: Figures) -> dict[str, Any]:
    from ehrmind.report.rollouts import as_json, sampled_rollouts

    if parts := run.seeds():
        raise InputError(
            f"{run.path} pools {len(parts)} seeds and holds no text itself; ask for that of one, such as {parts[0].path}."
        )
    history = History.model_validate(figures.recipe.get("prompts", {}).get("history", {}))
    sample = sampled_rollouts(run, figures.recipe.get("seed", 0), history=history)
    return {"shown": len(sample["rollouts"]), "total": sample["total"], "json": as_json(sample)}
