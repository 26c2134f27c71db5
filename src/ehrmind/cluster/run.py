"""Runs a recipe on a cluster: the same stages, the same run folder.

The driver makes the folder and reads the data into it. A worker always continues in that folder,
whether it starts first or replaces a lost one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from ehrmind.cluster.data import each_on_ray
from ehrmind.cluster.joined import joined
from ehrmind.cluster.mirror import Mirror, is_url, kept, staged
from ehrmind.cluster.workers import on_gpu, work
from ehrmind.config import Recipe, parse_recipe
from ehrmind.data.map_files import done_by
from ehrmind.engines import Engine
from ehrmind.removal import remove_contents, say_left
from ehrmind.runs import Run, open_run
from ehrmind.runs.lock import WAIT_FOR_WORKERS, lent, only_writer
from ehrmind.runs.start import holds_work
from ehrmind.stages.data import prepare_data
from ehrmind.stages.models import locate_at, open_local
from ehrmind.stages.seeds import parts_of, run_seeds
from ehrmind.types import InputError
from ehrmind.world import current


@contextmanager
def run_on_cluster(
    recipe: Recipe,
    out: str,
    *,
    resume: bool = False,
    stages: tuple[str, ...] | None = None,
    agree: Callable[[Run], str | None] = lambda _: None,
) -> Iterator[Run]:
    """Runs `run_seeds` on the workers of `recipe.cluster`; yields the run. `agree` returns the
    commit of a hub model that every worker takes.

    `out` is a folder that every node sees under this path, or a URL in an object store. With a URL,
    the run is a copy on this machine, and what is added to it until the block ends is uploaded too.
    Raises InputError.
    """
    if not is_url(out):
        folder = Path(out).resolve()
        with only_writer(folder, holds_work, wait=WAIT_FOR_WORKERS):
            yield _run(recipe, folder, None, "", resume, stages, agree)
        return
    with staged(out) as (folder, mirror, owner):
        with _store_free_if_refused(folder, mirror):
            run = _run(recipe, folder, mirror, owner, resume, stages, agree)
        yield run
        mirror.push(folder)


@contextmanager
def _store_free_if_refused(folder: Path, mirror: Mirror) -> Iterator[None]:
    """Empties the URL if a new run is refused, as `only_writer` does for a folder. The workers may
    have put something there."""
    was_used = any(folder.iterdir())
    try:
        yield
    except Exception:
        if not was_used:
            mirror.pull(folder)
            if not holds_work(folder):
                say_left(remove_contents(folder))
                mirror.push(folder)
        raise


def _run(
    recipe: Recipe,
    folder: Path,
    mirror: Mirror | None,
    owner: str,
    resume: bool,
    stages: tuple[str, ...] | None,
    agree: Callable[[Run], str | None],
) -> Run:
    run = open_run(folder, recipe, resume=resume)
    commit = agree(run)
    out = mirror.url if mirror is not None else str(folder)
    tree = recipe.model_dump(mode="json")
    config = {"recipe": tree, "out": out, "owner": owner, "stages": stages, "commit": commit}
    with joined(recipe.cluster) as cluster:
        read_data(run, recipe)
        if mirror is not None:
            mirror.push(folder)
        with lent(folder, wait=WAIT_FOR_WORKERS) if mirror is None else nullcontext():
            work(recipe.cluster, on_gpu(recipe.model.device, recipe.cluster.workers), run_recipe, config, cluster)
    if mirror is not None:
        mirror.pull(folder)
    return run


def read_data(run: Run, recipe: Recipe) -> None:
    """Reads the sources into the run's cases before any worker holds a CPU, for which Ray Data
    would wait for ever."""
    whole = {run: recipe} if recipe.seeds == 1 else {run.of_seed(seed): part for seed, part in parts_of(recipe).items()}
    for part, its_recipe in whole.items():
        if part.done("data") is None:
            open_run(part.path, its_recipe, resume=True)
            with done_by(each_on_ray):
                prepare_data(part, its_recipe)


def run_recipe(config: dict[str, Any]) -> None:
    """Runs in each worker."""
    recipe, stages = parse_recipe(config["recipe"]), config["stages"]
    locate = locate_at(config["commit"])
    if not is_url(config["out"]):
        out = Path(config["out"])
        if not (out / "recipe.yaml").is_file():
            raise InputError(
                f"{out} is not the same folder on every node; give --out a shared folder, or the URL of an object "
                f"store."
            )
        with only_writer(out, wait=WAIT_FOR_WORKERS):
            run_seeds(recipe, out, resume=True, stages=stages, locate=locate)
        return
    with staged(config["out"], config["owner"]) as (folder, mirror, _):
        current().gather(None)  # everyone must have read before anyone writes
        with kept(mirror, folder) if current().first else nullcontext():
            opened = partial(_opened, mirror, folder)
            run_seeds(recipe, folder, resume=True, stages=stages, open_engine=opened, locate=locate)


def _opened(mirror: Mirror, folder: Path, recipe: Recipe, model: Path) -> Engine:
    """Gives the other workers the run's models from the store, where the first worker has put
    them."""
    current().from_first(lambda: mirror.push(folder))
    if not current().first and model.is_relative_to(folder):
        mirror.pull(folder, under=model.relative_to(folder).as_posix() + "/")
    return open_local(recipe, model)
