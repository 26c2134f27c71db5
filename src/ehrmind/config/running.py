"""The recipe's `cluster` and `tracking`: who runs it, and curves for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ehrmind.config.section import Section


class Tracking(Section):
    """Curves for other programs; nothing is sent anywhere."""

    tensorboard: bool = Field(default=False, description="writes the curves of metrics.jsonl for TensorBoard too")


def workers_named(cluster: Any) -> int | None:
    """Returns how many workers a recipe's `cluster` names, itself or by its address."""
    if not isinstance(cluster, Mapping):
        return None
    if "workers" in cluster:
        return cluster["workers"] if isinstance(cluster["workers"], int) and cluster["workers"] > 0 else None
    nodes = str(cluster.get("address")).removeprefix("local:")
    return int(nodes) if nodes.isdecimal() and int(nodes) > 0 else None


class Cluster(Section):
    """Workers that run the recipe. No key here changes the result: other workers may resume a
    run."""

    address: str | None = Field(
        default=None, description="address of a Ray cluster: HOST:PORT, or local:N for N nodes on this machine"
    )
    workers: PositiveInt = Field(default=1, description="processes, each with a device; they divide `shards`")
    strategy: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="fsdp: gradients and optimiser are sharded, for models that one device cannot train",
    )
    restarts: NonNegativeInt = Field(
        default=3, description="how often a Ray cluster restarts the workers after one of them or a node was lost"
    )

    @model_validator(mode="before")
    @classmethod
    def local_nodes_have_a_worker_each(cls, tree: Any) -> Any:
        """Takes the number of workers from `local:N`, unless `workers` says it."""
        named = workers_named(tree)
        return {**tree, "workers": named} if named is not None else tree
