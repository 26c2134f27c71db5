"""A cluster of several nodes on this machine, for one run: Ray's local cluster, private to its
user, gone when the block ends."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ehrmind.cluster.private import private_folder
from ehrmind.files import write_private

LOOPBACK = "127.0.0.1"
OBJECT_STORE = 80 << 20  # bytes per node; Ray's minimum is 75 MiB, and no tensor goes through it


class LocalCluster:
    """A cluster whose nodes are our own processes. `address` is where the first one listens, on
    loopback only."""

    def __init__(self, nodes: int, cpus: int) -> None:
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
        from ray.cluster_utils import Cluster

        # otherwise a second cluster in one process keeps the rules and token of the first
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
        self._node: dict[str, Any] = {
            "num_cpus": cpus,
            "node_ip_address": LOOPBACK,
            "object_store_memory": OBJECT_STORE,
        }
        quiet = {"include_dashboard": False, "dashboard_agent_listen_port": 0}
        self._cluster = Cluster(initialize_head=True, head_node_args=self._node | quiet)
        for _ in range(nodes - 1):
            self._cluster.add_node(**self._node)
        self.address = str(self._cluster.address)

    def mend(self) -> int:
        """Starts a node for each one that has died; returns how many. The head node cannot be
        replaced."""
        lost = [node for node in self._cluster.worker_nodes if node.dead_processes()]
        for node in lost:
            self._cluster.remove_node(node, allow_graceful=False)
            self._cluster.add_node(**self._node)
        return len(lost)

    def lost_head(self) -> bool:
        return bool(self._cluster.head_node.dead_processes())  # type: ignore[attr-defined]

    def stop(self) -> None:
        self._cluster.shutdown()


@contextmanager
def local_cluster(nodes: int, cpus: int) -> Iterator[LocalCluster]:
    """Starts `nodes` nodes with room for `cpus` workers each.

    Everything Ray writes is in a folder that only this user can open, and is removed with it. Every
    client needs a token that nobody else knows.
    """
    # a longer path would not fit a socket's name
    with private_folder("ehrmind", Path("/tmp")) as private:
        token = private / "token"
        write_private(token, secrets.token_hex(32).encode())
        settings = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_TMPDIR": str(private),
            # needed on Linux too: nodes know each other by the loopback address
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # two nodes on one machine would take the same GPU; torchrun deals them out
            "CUDA_VISIBLE_DEVICES": "",
            "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
        }
        with environment(settings, without=("RAY_AUTH_TOKEN", "RAY_ADDRESS")):
            cluster = LocalCluster(nodes, cpus)
            try:
                yield cluster
            finally:
                cluster.stop()


@contextmanager
def environment(settings: dict[str, str], without: tuple[str, ...] = ()) -> Iterator[None]:
    """Sets variables of this process and its children until the block ends."""
    before = {name: os.environ.get(name) for name in (*settings, *without)}
    os.environ.update(settings)
    for name in without:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
