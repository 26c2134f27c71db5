"""The page of a pilot: what the base model can do, how its answers fail, the plan, and the command
that goes on. It holds figures and ids; the browser of its answers is on the page with text."""

from __future__ import annotations

from dataclasses import dataclass

from ehrmind.report.formatting import Rows, Table, interval, number, percent
from ehrmind.report.plots import pilot as plots
from ehrmind.report.plots.drawing import drawn
from ehrmind.report.reading import Piloted
from ehrmind.report.shareable import recipe_text
from ehrmind.report.tables import pilot as tables
from ehrmind.runs import Run
from ehrmind.runs.records import Diagnosis


@dataclass(frozen=True)
class PilotPage:
    """Everything that the template shows of a pilot."""

    name: str
    seed: int
    version: str
    model: str
    summary: list[str]
    plots: dict[str, str]
    tables: dict[str, Table | None]
    recipe: str


def pilot_contents(run: Run, found: Piloted) -> PilotPage:
    """Reads the pilot's rollouts too, which count the failures. Raises InputError if one is
    damaged."""
    assert found.pilot is not None and found.provenance is not None, "read_pilot gives both"
    plan = tables.plan_sentences(found.plan) if found.plan is not None else [_kinds(found.pilot)]
    return PilotPage(
        name=found.recipe.name,
        seed=found.recipe.seed,
        version=found.provenance.versions.get("ehrmind", ""),
        model=found.provenance.model.name,
        summary=[*_right(found.pilot), *plan],
        plots=drawn(found, {"pilot": plots.pilot}),
        tables={
            "pilot": tables.pilot(found),
            "failures": _failures(run),
            "interventions": tables.interventions(found),
            "plan": tables.plan(found),
        },
        recipe=recipe_text(found.recipe),
    )


def _right(found: Diagnosis) -> list[str]:
    """How much the base model gets right; empty without the figures of all strata together."""
    row = found.overall
    if row is None:
        return []
    return [
        f"The base model answers {percent(row.pass_at_1)} of {row.questions:,} training questions right "
        f"({interval(row.pass_at_1_ci95)}), and {percent(row.pass_at_k)} at least once in {found.samples} samples; "
        f"{percent(row.format_rate)} of its answers are well-formed."
    ]


def _kinds(found: Diagnosis) -> str:
    """How many strata are of which kind. A plan says it itself."""
    counts = ", ".join(f"{len(found.strata(kind))} {kind}" for kind in tables.KINDS)
    return f"Of {len(found.by_stratum)} strata the base model has {counts}."


def _failures(run: Run) -> Table | None:
    """How often a sampled answer failed for which reason; None after a purge."""
    if not run.rollout_steps("pilot"):
        return None
    answers = run.read_rollouts("pilot").select("correct", "reason")
    wrong = answers.filter(~answers["correct"])["reason"].fill_null("wrong").value_counts(sort=True)
    rows: Rows = [[str(reason), number(count), percent(count / answers.height)] for reason, count in wrong.iter_rows()]
    caption = f"Why sampled answers failed: {answers.height:,} answers to training questions."
    return Table(caption, ["Reason", "Answers", "Share of all"], rows)
