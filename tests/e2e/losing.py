"""Work for cluster workers in which some are killed at moments that are named, once each; what is
killed is really killed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


def losing(config: dict[str, Any]) -> None:
    """`run_recipe` in a worker that dies of SIGKILL, alone or with its node: every fault leaves a
    file in FAULTS, so that it comes once."""
    import ehrmind.files
    from ehrmind.cluster.run import run_recipe
    from ehrmind.engines.local.engine import LocalEngine
    from ehrmind.engines.local.training.learner import LocalLearner
    from ehrmind.world import current

    faults, first = Path(os.environ["FAULTS"]), current().first
    begun = Path(config["out"]) / "metrics.jsonl"

    def once(name: str, owner: Any, method: str, kill: Callable[[], None], when: Callable[..., bool]) -> None:
        known = getattr(owner, method)

        def dies(*args: Any, **options: Any) -> Any:
            if not (faults / name).exists() and when(*args):
                (faults / name).touch()
                kill()
            return known(*args, **options)

        setattr(owner, method, dies)

    def steps(stage: str) -> int:
        return begun.read_text().count(f'"stage": "{stage}') if begun.is_file() else 0

    def in_checkpoint(path: Path) -> bool:
        return ".partial" in path.parent.name and "rlvr" in path.parts[-3] and steps("rlvr") > 1

    once("warm-up", LocalLearner, "learn_from_responses", worker, lambda *_: not first and steps("warmup") == 3)
    once("sampling", LocalEngine, "sample", worker, lambda *_: not first and steps("rlvr") == 1)
    once("update", LocalLearner, "learn_from_groups", node, lambda *_: on_other_node() and steps("rlvr") == 1)
    once("checkpoint", ehrmind.files, "sync_folder", worker, lambda path: first and in_checkpoint(path))
    run_recipe(config)


def worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def node() -> None:
    """A worker's parent is its node's raylet, with which all of the node goes."""
    os.kill(os.getppid(), signal.SIGKILL)
    worker()


def on_other_node() -> bool:
    """Not on the head node, with which the run itself would go."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    return not any("node:__internal_head__" in found["Resources"] for found in ray.nodes() if found["NodeID"] == here)
