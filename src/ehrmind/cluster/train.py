"""A recipe on a cluster: Ray Train starts the workers and starts them again when one is lost; each runs the same stages as on one machine.

The run folder holds all that outlives a worker. The driver makes it, and a worker always goes on in it, whether it is the first there or
takes the place of a lost one; so Ray's own checkpoints are not used.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from ehrmind.cluster.data import each_on_ray
from ehrmind.cluster.desk import ToDesk, open_desk, told
from ehrmind.cluster.joined import joined
from ehrmind.cluster.local import LocalCluster
from ehrmind.config import Cluster, Recipe, parse_recipe
from ehrmind.runs import Run, open_run
from ehrmind.sources.each import done_by
from ehrmind.stages.data import prepare_data
from ehrmind.stages.seeds import parts_of, run_seeds
from ehrmind.types import InputError

SECONDS_BETWEEN_LOOKS = 0.3
PATIENCE = timedelta(days=7)  # the first worker may ask an endpoint for days; a lost one is noticed by its connection
HEARD_WITHIN = 45.0  # seconds; Ray itself ends a driver that has not reached the head for a minute
LOST_HEAD = "The cluster's head node was lost; finished work is kept, and the same command with --resume goes on, on another cluster."
Loop = Callable[[dict[str, Any]], None]


def run_on_cluster(recipe: Recipe, out: Path, *, resume: bool = False, stages: tuple[str, ...] | None = None) -> Run:
    """`run_seeds` by the workers of `recipe.cluster`. `out` is a folder that every node sees under this path. Raises InputError."""
    run = open_run(out.resolve(), recipe, resume=resume)
    config = {"recipe": recipe.model_dump(mode="json"), "out": str(run.path), "stages": stages}
    with joined(recipe.cluster) as own:
        read_data(run, recipe)
        work(recipe.cluster, on_gpu(recipe), run_recipe, config, own)
    return Run(out)


def read_data(run: Run, recipe: Recipe) -> None:
    """The sources become the run's cases while no worker holds a CPU yet: Ray Data would wait for ever for one."""
    whole = {run: recipe} if recipe.seeds == 1 else {run.of_seed(seed): part for seed, part in parts_of(recipe).items()}
    for part, its_recipe in whole.items():
        if part.done("data") is None:
            open_run(part.path, its_recipe, resume=True)
            with done_by(each_on_ray):
                prepare_data(part, its_recipe)


def run_recipe(config: dict[str, Any]) -> None:
    """What a worker does."""
    out = Path(config["out"])
    if not (out / "recipe.yaml").is_file():
        raise InputError(f"{out} is not the same folder on every node; give --out a shared folder, or the URL of an object store.")
    run_seeds(parse_recipe(config["recipe"]), out, resume=True, stages=config["stages"])


def on_gpu(recipe: Recipe) -> bool:
    """Whether workers ask for a GPU each: where the recipe says cuda, or says nothing and the cluster has enough."""
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    if recipe.model.device == "cuda" and gpus < recipe.cluster.workers:
        raise InputError(f"The cluster has {gpus} GPUs, fewer than cluster.workers={recipe.cluster.workers}; lower it, or add nodes.")
    return recipe.model.device != "cpu" and gpus >= recipe.cluster.workers


def work(settings: Cluster, gpu: bool, loop: Loop, config: dict[str, Any], own: LocalCluster | None) -> None:
    """`loop(config)` by every worker, to its end. What rank 0 writes to standard error is written here, what a worker raises is raised
    here; only the loss of a worker is tried again, `settings.restarts` times."""
    from ray.exceptions import GetTimeoutError, RayError

    ended: list[BaseException | None] = []
    try:
        desk = open_desk()
        thread = threading.Thread(target=_fit, args=(settings, gpu, loop, {**config, "desk": desk}, ended), daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(SECONDS_BETWEEN_LOOKS)
            if own is not None and own.lost_head():
                raise InputError(LOST_HEAD)
            if own is not None and (again := own.mend()):
                sys.stderr.write(f"{again} node(s) of the cluster were lost and started again\n")
            _hear(desk)
        _hear(desk)
    except (RayError, GetTimeoutError, ConnectionError):
        raise InputError(LOST_HEAD) from None
    if ended[0] is not None:
        raise _why(ended[0], settings)


def _hear(desk: Any) -> None:
    import ray

    for kind, content in ray.get(desk.heard.remote(), timeout=HEARD_WITHIN):
        if kind == "raised":
            raise content
        sys.stderr.write(f"{content}\n")
    sys.stderr.flush()


def _fit(settings: Cluster, gpu: bool, loop: Loop, config: dict[str, Any], ended: list[BaseException | None]) -> None:
    """In a thread of its own, so that Ctrl-C stays ours."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    try:
        with tempfile.TemporaryDirectory(prefix="ehrmind-train-") as marks:
            TorchTrainer(
                _guarded,
                train_loop_config={**config, "loop": loop},
                torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo", timeout_s=int(PATIENCE.total_seconds())),
                scaling_config=ScalingConfig(num_workers=settings.workers, use_gpu=gpu),
                run_config=RunConfig(name="ehrmind", storage_path=marks, failure_config=FailureConfig(max_failures=settings.restarts)),
            ).fit()
        ended.append(None)
    except BaseException as error:  # noqa: BLE001 - it is raised in the main thread
        ended.append(error)


def _guarded(config: dict[str, Any]) -> None:
    """In the worker: what it raises goes to the desk and ends the run; only what the loss of another worker looks like goes to Ray, which
    then starts all of them again."""
    import ray

    from ehrmind.world import current

    desk = config["desk"]
    if current().first:
        sys.stderr = ToDesk(desk)
    try:
        config["loop"](config)
    except Exception as error:  # noqa: BLE001 - what leaves the worker must not quote a record
        shown = error if os.environ.get("EHRMIND_TRACEBACK") == "1" else None
        safe = told(error)
        if isinstance(error, RuntimeError) and not isinstance(safe, MemoryError):
            raise safe from shown
        ray.get(desk.say.remote("raised", safe))


def _why(error: BaseException, settings: Cluster) -> BaseException:
    """A person's sentence where Ray gave up."""
    from ray.train import TrainingFailedError

    if not isinstance(error, TrainingFailedError):
        return error
    failures = getattr(error, "worker_failures", {})
    last = next((str(getattr(failure, "_base_exc", failure)).splitlines() for failure in failures.values()), [])
    return InputError(
        f"Workers were lost more often than cluster.restarts={settings.restarts} allows, "
        f"at last by {last[0] if last else 'an unknown cause'}; finished work is kept, and the same command with --resume goes on."
    )
