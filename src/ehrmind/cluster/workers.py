"""Runs workers on a cluster. Ray Train starts them, and restarts all of them when one is lost.

All workers do the same work in the same order. What must outlive a worker is in a folder that the
work itself knows; Ray's own checkpoints are not used.
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
from ehrmind.cluster.worker_log import ToMailbox, WorkerError, open_mailbox, without_text
from ehrmind.config import Cluster
from ehrmind.system import why
from ehrmind.types import InputError
from ehrmind.world import PATIENCE, current, is_of_connection

SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_CALLS = 0.3, 2.0
HEARD_WITHIN = 45.0  # seconds; Ray itself ends a driver that has not reached the head for a minute
LOST_HEAD = (
    "The cluster's head node was lost; finished work is kept, and the same command with --resume goes on, on another "
    "cluster."
)
NOT_LET_IN = (
    "The cluster does not run what this machine asks it to; one that asks for no token cannot serve a client that "
    "does, so start it with RAY_AUTH_MODE=token (docs/cluster.md), or say RAY_AUTH_MODE=disabled here too."
)
Loop = Callable[[dict[str, Any]], None]


def on_gpu(device: str, workers: int) -> bool:
    """True if workers ask for a GPU each: `model.device` is cuda, or is auto and the cluster has
    enough."""
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device == "cuda" and gpus < workers:
        raise InputError(
            f"The cluster has {gpus} GPUs, fewer than cluster.workers={workers}; lower it, or add nodes (`ehrmind "
            f"predict` has --workers)."
        )
    return device != "cpu" and gpus >= workers


def work(settings: Cluster, gpu: bool, loop: Loop, config: dict[str, Any], cluster: AnyCluster) -> None:
    """Runs `loop(config)` on every worker to its end.

    The standard error of rank 0 is written here, and a worker's exception is raised here. Only the
    loss of a worker is retried, `settings.restarts` times.
    """
    ended: list[BaseException | None] = []
    mailbox = open_mailbox()
    _heard(mailbox, NOT_LET_IN)
    try:
        thread = threading.Thread(
            target=_fit, args=(settings, gpu, loop, {**config, "mailbox": mailbox}, ended), daemon=True
        )
        thread.start()
        while thread.is_alive():
            thread.join(SECONDS_BETWEEN_LOOKS)
            if cluster.lost_head():
                raise InputError(LOST_HEAD)
            if again := cluster.mend():
                sys.stderr.write(f"{again} node(s) of the cluster were lost and started again\n")
            _say(_heard(mailbox))
        _say(_heard(mailbox))
    finally:
        mailbox.close.remote()
    if ended[0] is not None:
        raise _why(ended[0], settings)


def _heard(mailbox: Any, otherwise: str = LOST_HEAD) -> list[tuple[str, Any]]:
    import ray
    from ray.exceptions import RayError

    try:
        said: list[tuple[str, Any]] = ray.get(mailbox.heard.remote(), timeout=HEARD_WITHIN)
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
    """Runs the trainer in a thread of its own, so that Ctrl-C stays ours."""
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
    """Runs the loop in a worker and sends its exception to the mailbox, which ends the run.

    Only what looks like the loss of another worker goes to Ray, which then restarts all of them.
    """
    import ray

    mailbox = config["mailbox"]
    threading.Thread(target=_leave_with, args=(mailbox,), daemon=True).start()
    if current().first:
        sys.stderr = ToMailbox(mailbox)
    try:
        config["loop"](config)
    except Exception as error:  # noqa: BLE001 - what leaves the worker must not quote a record
        if os.environ.get("EHRMIND_TRACEBACK") == "1":
            mailbox.say.remote("line", traceback.format_exc())
        if is_of_connection(error):
            raise without_text(error) from None
        ray.get(mailbox.say.remote("raised", without_text(error)))


def _leave_with(mailbox: Any) -> None:
    """Ends this worker soon after the driver.

    If the head is lost, nothing else ends it, and a resumed run must be alone in its folder.
    """
    import ray
    from ray.exceptions import RayError

    while True:
        time.sleep(SECONDS_BETWEEN_CALLS)
        try:
            ray.get(mailbox.is_there.remote(), timeout=HEARD_WITHIN)
        except RayError:
            os._exit(1)


def _why(error: BaseException, settings: Cluster) -> BaseException:
    """Returns the sentence to show when Ray gave up."""
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    if not isinstance(error, TrainingFailedError):
        return InputError(LOST_HEAD) if isinstance(error, RayError) else error
    failures = getattr(error, "worker_failures", {})
    last = next((getattr(failure, "_base_exc", failure) for failure in failures.values()), None)
    # Ray's words are not shown, because they quote ours.
    cause = "an unknown cause" if last is None else str(last) if isinstance(last, WorkerError) else why(last)
    return InputError(
        f"Workers were lost more often than cluster.restarts={settings.restarts} allows, "
        f"at last by {cause}; finished work is kept, and the same command with --resume goes on."
    )
