"""Joins a cluster and leaves it, in a process that may be killed or crash:
`python -m ehrmind.cluster.attempt HOST:PORT`."""

from __future__ import annotations

import logging
import sys

if __name__ == "__main__":
    import ray

    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
