"""Command line: the verbs that run a recipe, whole or in part."""

from __future__ import annotations

import os
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ehrmind.cli.downloads import Online, Yes, ask
from ehrmind.cli.offline import stay_offline
from ehrmind.types import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ehrmind.runs import Run

RecipePath = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe's file, or the name of one that ships: see `ehrmind recipes`.",
        show_default=False,
    ),
]
RunPath = Annotated[
    str,
    typer.Option(
        "--out",
        metavar="RUN",
        help="The run folder to make; on a cluster also a URL, such as s3://…",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Recipe keys to change, for example rlvr.steps=20.", show_default=False
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that has begun.", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Continue in a run folder made with the same recipe.")]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Run on a Ray cluster: HOST:PORT, or local:2 for two nodes on this machine.",
        show_default=False,
    ),
]


def run(
    recipe: RecipePath,
    out: RunPath,
    overrides: Overrides = None,
    resume: Resume = False,
    cluster: Cluster = None,
    online: Online = False,
    yes: Yes = False,
) -> None:
    """Run a whole recipe: pilot, warm-up, RLVR, evaluation, and the page that shows them."""
    _stages(recipe, out, overrides or [], resume, None, cluster, online, yes)


def pilot(
    recipe: RecipePath,
    out: RunPath,
    overrides: Overrides = None,
    resume: Resume = False,
    cluster: Cluster = None,
    online: Online = False,
    yes: Yes = False,
) -> None:
    """Sample answers to training questions and report what the base model can and cannot do."""
    _stages(recipe, out, overrides or [], resume, ("pilot",), cluster, online, yes)


def evaluate(
    recipe: RecipePath,
    out: RunPath,
    overrides: Overrides = None,
    resume: Resume = False,
    cluster: Cluster = None,
    online: Online = False,
    yes: Yes = False,
) -> None:
    """Score the recipe's model on the held-out cases as it is.

    Use model.name=RUN/protected/models/ARM to score a model that a run has trained.
    """
    _stages(recipe, out, [*(overrides or []), "arms=[base]"], resume, ("evaluate",), cluster, online, yes)


def resume(run: RunFolder, cluster: Cluster = None, online: Online = False, yes: Yes = False) -> None:
    """Go on with a run from its folder alone.

    Recipe, overrides and verb (run, pilot or evaluate) are those of the folder's last command.
    """
    from ehrmind.runs import Run
    from ehrmind.stages.pipeline import STAGES
    from ehrmind.stages.provenance import stages_of

    recipe = run / "recipe.yaml"
    if not recipe.is_file():
        raise InputError(f"{run} is no run folder, so nothing can go on; `ehrmind run RECIPE --out RUN` makes one.")
    stages = stages_of(Run(run))
    if stages is None:
        raise InputError(f"{run} was stopped before its model was opened; give the command that made it, and --resume.")
    asked_once = [] if online else ["data.online=false"]  # who agreed to a download agreed for that command
    _stages(recipe, str(run), asked_once, True, None if stages in ((), STAGES) else stages, cluster, online, yes)


def _stages(
    path: Path,
    out: str,
    overrides: list[str],
    resume: bool,
    stages: tuple[str, ...] | None,
    cluster: str | None,
    online: bool,
    yes: bool,
) -> None:
    from ehrmind.config import load_recipe

    by_torchrun = "WORLD_SIZE" in os.environ and cluster is None
    started = [f"cluster.workers={os.environ['WORLD_SIZE']}"] if by_torchrun else []
    asked = [*(["data.online=true"] if online else []), *([] if cluster is None else [f"cluster.address={cluster}"])]
    recipe = load_recipe(path, [*started, *overrides, *asked])
    on = [] if cluster is None else ["--cluster", cluster]
    then = shlex.join(["ehrmind", "run", str(path), "--out", out, "--resume", *on, *overrides])
    scored = stages is None or "evaluate" in stages
    stay_offline(recipe.data.online)
    if recipe.cluster.address is not None:
        from ehrmind.cluster.run import run_on_cluster
        from ehrmind.stages.models import agreed_commit

        agreed = partial(agreed_commit, recipe, ask=partial(ask, yes=yes), here=False)
        with run_on_cluster(recipe, out, resume=resume, stages=stages, agree=agreed) as finished:
            failed = _show(finished, out, then, scored=scored)
    else:
        from ehrmind.runs import open_run
        from ehrmind.runs.lock import only_writer
        from ehrmind.runs.start import holds_work
        from ehrmind.stages.models import agreed_commit, locate_at
        from ehrmind.stages.seeds import run_seeds
        from ehrmind.world import is_restarted, joined

        folder, resume = _folder(out), resume or is_restarted()
        with joined(recipe.model.device) as world, only_writer(folder, holds_work):
            start: Callable[..., Run] = run_seeds
            if recipe.data.online:  # a folder that is in use is refused before anyone is asked
                run = open_run(folder, recipe, resume=resume)
                resume = True
                commit = world.from_first(lambda: agreed_commit(recipe, run, partial(ask, yes=yes), here=True))
                start = partial(run_seeds, locate=locate_at(commit))
            finished = start(recipe, folder, resume=resume, stages=stages)
            failed = world.from_first(lambda: _show(finished, out, then, scored=scored))
    if failed:
        raise typer.Exit(1)


def _folder(out: str) -> Path:
    from ehrmind.cluster.mirror import is_url

    if is_url(out):
        raise InputError(
            f"--out {out} is a URL, which only a cluster writes to; add --cluster (local:1 is one on this machine), or "
            f"give a folder."
        )
    return Path(out)


def _show(finished: Run, out: str, then: str, *, scored: bool) -> bool:
    """Prints the figures and writes the page. If there are no results yet, prints the pilot's plan
    and the command that goes on. True if the recipe's own gate fails."""
    from ehrmind.cli.tables import show_pilot, show_plan, show_results
    from ehrmind.report import write_report
    from ehrmind.stages.evaluation.results import gate

    show_pilot(finished)
    planned = finished.read_json("results.json") is None and show_plan(finished)
    show_results(finished)
    seeds = finished.seeds()
    pooled = [finished] if scored or not seeds else []  # a pilot of several seeds has a page for each
    pages = [write_report(part.path)[0] for part in (*seeds, *pooled)]
    typer.echo(f"page: {out.rstrip('/')}/{pages[-1].relative_to(finished.path)}")
    if planned:
        typer.echo(f"Next: {then}")
    failed = gate(finished)
    if failed:
        typer.echo(failed, err=True)
    return failed is not None
