"""Joining a Ray cluster: this machine must be one of its nodes, and must have its token. Nothing waits longer than a stated time."""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ehrmind.cluster.local import LocalCluster, environment, local_cluster
from ehrmind.config import Cluster
from ehrmind.types import InputError

REACHED_WITHIN, JOINED_WITHIN = 5.0, 60.0  # seconds
SECONDS_BETWEEN_LOOKS, GONE_AFTER = (
    2.0,
    50.0,
)  # Ray gives a head a minute to come back, and then ends the driver without a word of ours
ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing about the run leaves the machine
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
_LOCAL = re.compile(r"local:([1-9][0-9]?)")
_HOST = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}")
_HERE = "make sure that this machine is one of its nodes (`ray start --address=HOST:PORT`), and that a Ray head listens there"
PASSED_ON = (
    "HF_HUB_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_DISABLE_PROGRESS_BARS",
    "EHRMIND_TRACEBACK",
    "OMP_NUM_THREADS",
)


class JoinedCluster:
    """One that others keep. `lost_head` says whether its head has not answered for longer than a head that is started again would take."""

    def __init__(self, address: str) -> None:
        self._address, self._looked, self._answered = address, 0.0, time.monotonic()

    def lost_head(self) -> bool:
        now = time.monotonic()
        if now - self._looked > SECONDS_BETWEEN_LOOKS:
            self._looked = now
            if _why_not_reached(self._address) is None:
                self._answered = now
        return now - self._answered > GONE_AFTER

    def mend(self) -> int:
        """Its nodes are others' to start."""
        return 0


AnyCluster = LocalCluster | JoinedCluster


@contextmanager
def joined(settings: Cluster) -> Iterator[AnyCluster]:
    """Be part of the cluster that a recipe names until the block ends. Raises InputError."""
    need_ray()
    address = settings.address or ""
    with environment(
        ALWAYS | ({} if "RAY_AUTH_MODE" in os.environ else {"RAY_AUTH_MODE": "token"}), without=("RAY_ADDRESS",)
    ):
        if own := _LOCAL.fullmatch(address):
            nodes = int(own[1])
            with local_cluster(nodes, math.ceil(settings.workers / nodes)) as cluster:
                yield from _connected(cluster.address, settings.workers, cluster)
        else:
            refuse_what_cannot_be_joined(address)
            if os.environ["RAY_AUTH_MODE"] != "token":
                sys.stderr.write(
                    f"RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']}: whoever reaches the cluster's ports can run programs on it\n"
                )
            yield from _connected(address, settings.workers, JoinedCluster(address))


def _connected(address: str, workers: int, cluster: AnyCluster) -> Iterator[AnyCluster]:
    import ray

    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": passed_on})
    try:
        places = int(ray.cluster_resources().get("CPU", 0))
        if places < workers:
            raise InputError(
                f"The cluster at {address} has {places} CPUs, fewer than cluster.workers={workers}; lower it, or "
                "add nodes (`ehrmind predict` has --workers)."
            )
        yield cluster
    finally:
        ray.shutdown()


def need_ray() -> None:
    """Raises InputError where the extra is not installed."""
    import importlib.util

    if importlib.util.find_spec("ray") is None:
        raise InputError("A cluster needs Ray, which is not installed here; pip install 'ehrmind[cluster]' brings it.")


def refuse_what_cannot_be_joined(address: str) -> None:
    """Ray itself tries for minutes, and dies of some mistakes; a process of its own tries first. Raises InputError."""
    if _HOST.fullmatch(address) is None:
        raise InputError(
            f"'{address}' is no cluster; write local:2 for two nodes on this machine, or HOST:PORT of the head node."
        )
    if (why := _why_not_reached(address)) is not None:
        raise InputError(
            f"Nothing answers at {address} ({why}); start the head node with `ray start --head`, or give the address that it shows."
        )
    try:
        tried = subprocess.run(
            [sys.executable, "-m", "ehrmind.cluster.attempt", address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=JOINED_WITHIN,
            env={**os.environ, "RAY_NUM_REDIS_GET_RETRIES": "3"},  # a second each
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"The cluster at {address} could not be joined in {JOINED_WITHIN:.0f} s; {_HERE}.") from None
    if tried.returncode:
        raise InputError(f"The cluster at {address} could not be joined: {_why(tried.stderr)}.")


def _why_not_reached(address: str) -> str | None:
    """None where something listens there."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_WITHIN).close()
    except (OSError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return None


def _why(said: str) -> str:
    if "uthenticat" in said:
        return "it asks for a token, and this machine has none or another; docs/cluster.md says where the token goes"
    if "ersion mismatch" in said or "different versions" in said:
        return "it runs another version of Ray or Python; install the same ones on every node"
    return _HERE
