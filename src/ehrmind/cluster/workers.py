"""Workers on a cluster: Ray Train starts them, and starts all of them again when one is lost. Each does the same work in the same order.

What outlives a worker lies in a folder that the work itself knows; Ray's own checkpoints are not used.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from ehrmind.cluster.joined import AnyCluster
from ehrmind.cluster.worker_log import ToDesk, WorkerError, open_desk, told
from ehrmind.config import Cluster
from ehrmind.system import why
from ehrmind.types import InputError
from ehrmind.world import PATIENCE, current, is_of_connection

SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_CALLS = 0.3, 2.0
HEARD_WITHIN = 45.0  # seconds; Ray itself ends a driver that has not reached the head for a minute
LOST_HEAD = "The cluster's head node was lost; finished work is kept, and the same command with --resume goes on, on another cluster."
NOT_LET_IN = (
    "The cluster does not run what this machine asks it to; one that asks for no token cannot serve a client that does, so start it with "
    "RAY_AUTH_MODE=token (docs/cluster.md), or say RAY_AUTH_MODE=disabled here too."
)
Loop = Callable[[dict[str, Any]], None]


def on_gpu(device: str, workers: int) -> bool:
    """Whether workers ask for a GPU each: where `model.device` is cuda, or is auto and the cluster has enough."""
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device == "cuda" and gpus < workers:
        raise InputError(
            f"The cluster has {gpus} GPUs, fewer than cluster.workers={workers}; lower it, or add nodes (`ehrmind predict` has --workers)."
        )
    return device != "cpu" and gpus >= workers


def work(settings: Cluster, gpu: bool, loop: Loop, config: dict[str, Any], cluster: AnyCluster) -> None:
    """`loop(config)` by every worker, to its end. What rank 0 writes to standard error is written here, what a worker raises is raised
    here; only the loss of a worker is tried again, `settings.restarts` times."""
    ended: list[BaseException | None] = []
    desk = open_desk()
    _heard(desk, NOT_LET_IN)
    try:
        thread = threading.Thread(target=_fit, args=(settings, gpu, loop, {**config, "desk": desk}, ended), daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(SECONDS_BETWEEN_LOOKS)
            if cluster.lost_head():
                raise InputError(LOST_HEAD)
            if again := cluster.mend():
                sys.stderr.write(f"{again} node(s) of the cluster were lost and started again\n")
            _say(_heard(desk))
        _say(_heard(desk))
    finally:
        desk.close.remote()
    if ended[0] is not None:
        raise _why(ended[0], settings)


def _heard(desk: Any, otherwise: str = LOST_HEAD) -> list[tuple[str, Any]]:
    import ray
    from ray.exceptions import RayError

    try:
        said: list[tuple[str, Any]] = ray.get(desk.heard.remote(), timeout=HEARD_WITHIN)
    except RayError:
        raise InputError(otherwise) from None
    return said


def _say(said: list[tuple[str, Any]]) -> None:
    for kind, content in said:
        if kind == "raised":
            raise content
        sys.stderr.write(f"{content}\n")
    sys.stderr.flush()


def _fit(settings: Cluster, gpu: bool, loop: Loop, config: dict[str, Any], ended: list[BaseException | None]) -> None:
    """In a thread of its own, so that Ctrl-C stays ours."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    try:
        with tempfile.TemporaryDirectory(prefix="ehrmind-train-", dir=os.environ.get("RAY_TMPDIR")) as marks:
            TorchTrainer(
                _guarded,
                train_loop_config={**config, "loop": loop},
                torch_config=TorchConfig(
                    backend="cpu:gloo,cuda:nccl" if gpu else "gloo", timeout_s=int(PATIENCE.total_seconds())
                ),
                scaling_config=ScalingConfig(num_workers=settings.workers, use_gpu=gpu),
                run_config=RunConfig(
                    name="ehrmind", storage_path=marks, failure_config=FailureConfig(max_failures=settings.restarts)
                ),
            ).fit()
        ended.append(None)
    except BaseException as error:  # noqa: BLE001 - it is raised in the main thread
        ended.append(error)


def _guarded(config: dict[str, Any]) -> None:
    """In the worker: what it raises goes to the desk and ends the run; only what the loss of another worker looks like goes to Ray, which
    then starts all of them again."""
    import ray

    desk = config["desk"]
    threading.Thread(target=_leave_with, args=(desk,), daemon=True).start()
    if current().first:
        sys.stderr = ToDesk(desk)
    try:
        config["loop"](config)
    except Exception as error:  # noqa: BLE001 - what leaves the worker must not quote a record
        if os.environ.get("EHRMIND_TRACEBACK") == "1":
            desk.say.remote("line", traceback.format_exc())
        if is_of_connection(error):
            raise told(error) from None
        ray.get(desk.say.remote("raised", told(error)))


def _leave_with(desk: Any) -> None:
    """End this worker soon after the driver. Where the head is lost nobody else does, and a resumed run must be alone in its folder."""
    import ray
    from ray.exceptions import RayError

    while True:
        time.sleep(SECONDS_BETWEEN_CALLS)
        try:
            ray.get(desk.is_there.remote(), timeout=HEARD_WITHIN)
        except RayError:
            os._exit(1)


def _why(error: BaseException, settings: Cluster) -> BaseException:
    """A person's sentence where Ray gave up."""
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    if not isinstance(error, TrainingFailedError):
        return InputError(LOST_HEAD) if isinstance(error, RayError) else error
    failures = getattr(error, "worker_failures", {})
    last = next((getattr(failure, "_base_exc", failure) for failure in failures.values()), None)
    cause = (
        "an unknown cause" if last is None else str(last) if isinstance(last, WorkerError) else why(last)
    )  # not Ray's words: they quote ours
    return InputError(
        f"Workers were lost more often than cluster.restarts={settings.restarts} allows, "
        f"at last by {cause}; finished work is kept, and the same command with --resume goes on."
    )
