"""Command line: the verbs that run a recipe, whole or in part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ehrmind.cli.offline import stay_offline

if TYPE_CHECKING:
    from ehrmind.runs import Run

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, for example recipes/demo.yaml.", show_default=False)]
RunPath = Annotated[Path, typer.Option("--out", metavar="RUN", help="The run folder to make.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to change, for example rlvr.steps=20.", show_default=False)
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on in a run folder made with the same recipe.")]


def run(recipe: RecipePath, out: RunPath, overrides: Overrides = None, resume: Resume = False) -> None:
    """Run a whole recipe: pilot, warm-up, RLVR, evaluation, and the page that shows them."""
    _stages(recipe, out, overrides or [], resume, None)


def pilot(recipe: RecipePath, out: RunPath, overrides: Overrides = None, resume: Resume = False) -> None:
    """Sample answers to training questions and say what the base model can and cannot do."""
    _stages(recipe, out, overrides or [], resume, ("pilot",))


def evaluate(recipe: RecipePath, out: RunPath, overrides: Overrides = None, resume: Resume = False) -> None:
    """Score the recipe's model on the held-out cases as it is; model.name=RUN/protected/models/ARM scores one that a run trained."""
    _stages(recipe, out, [*(overrides or []), "arms=[base]"], resume, ("evaluate",))


def _stages(path: Path, out: Path, overrides: list[str], resume: bool, stages: tuple[str, ...] | None) -> None:
    from ehrmind.config import load_recipe

    recipe = load_recipe(path, overrides)
    stay_offline(recipe.data.online)
    from ehrmind.stages.seeds import run_seeds
    from ehrmind.world import is_restarted, joined

    with joined(recipe.model.device) as world:
        finished = run_seeds(recipe, out, resume=resume or is_restarted(), stages=stages)
        failed = world.from_first(lambda: _show(finished, whole=stages is None))
    if failed:
        raise typer.Exit(1)


def _show(finished: Run, *, whole: bool) -> bool:
    """On the terminal and, of a whole recipe, as a page. Whether a gate of the recipe's own fails."""
    from ehrmind.cli.tables import show_pilot, show_results
    from ehrmind.stages.results import gate

    show_pilot(finished)
    show_results(finished)
    if whole:
        from ehrmind.report import write_report

        pages = [write_report(part.path)[0] for part in (*finished.seeds(), finished)]
        typer.echo(f"page: {pages[-1]}")
    failed = gate(finished)
    if failed:
        typer.echo(failed, err=True)
    return failed is not None
