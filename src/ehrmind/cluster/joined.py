"""Joins a Ray cluster. This machine must be one of its nodes and have its token. Every wait has a
stated limit."""

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
# Seconds. Ray gives a head a minute to come back and then ends the driver, so we give up before it.
SECONDS_BETWEEN_LOOKS, GONE_AFTER = 2.0, 50.0
ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing about the run leaves the machine
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
_LOCAL = re.compile(r"local:([1-9][0-9]?)")
_HOST = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}")
_HERE = (
    "make sure that this machine is one of its nodes (`ray start --address=HOST:PORT`), and that a Ray head listens "
    "there"
)
PASSED_ON = (
    "HF_HUB_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_DISABLE_PROGRESS_BARS",
    "EHRMIND_TRACEBACK",
    "OMP_NUM_THREADS",
)


class JoinedCluster:
    """A cluster we did not start.

    `lost_head` is true if its head has not answered for longer than a restart of the head would
    take.
    """

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
        """Does nothing: others start its nodes."""
        return 0


AnyCluster = LocalCluster | JoinedCluster


@contextmanager
def joined(settings: Cluster) -> Iterator[AnyCluster]:
    """Joins the cluster that a recipe names until the block ends. Raises InputError."""
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
                    f"RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']}: everyone who reaches the cluster's ports can run "
                    f"programs on it\n"
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
    """Raises InputError if the extra is not installed."""
    import importlib.util

    if importlib.util.find_spec("ray") is None:
        raise InputError("A cluster needs Ray, which is not installed here; pip install 'ehrmind[cluster]' brings it.")


def refuse_what_cannot_be_joined(address: str) -> None:
    """Tries to join in a process of its own, because Ray retries for minutes and crashes on some
    mistakes. Raises InputError."""
    if _HOST.fullmatch(address) is None:
        raise InputError(
            f"'{address}' is no cluster; write local:2 for two nodes on this machine, or HOST:PORT of the head node."
        )
    if (why := _why_not_reached(address)) is not None:
        raise InputError(
            f"Nothing answers at {address} ({why}); start the head node with `ray start --head`, or give the address "
            f"that it shows."
        )
    try:
        tried = subprocess.run(
            [sys.executable, "-m", "ehrmind.cluster.attempt", address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=JOINED_WITHIN,
            env={**os.environ, "RAY_NUM_REDIS_GET_RETRIES": "3"},  # one second each
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"The cluster at {address} could not be joined in {JOINED_WITHIN:.0f} s; {_HERE}.") from None
    if tried.returncode:
        raise InputError(f"The cluster at {address} could not be joined: {_why(tried.stderr)}.")


def _why_not_reached(address: str) -> str | None:
    """Returns None if something listens at the address, or else why not."""
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
