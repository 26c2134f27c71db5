"""Many files, each read by the same function as on one machine, on whichever node Ray Data finds free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ehrmind.cluster.worker_log import told


def each_on_ray(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """`sources.each` by Ray Data: a task a file, what they make in the files' order. The first file's refusal is raised, as where files are
    read in turn. One file alone is not worth a task."""
    import logging

    import ray.data

    listed = list(items)
    if len(listed) < 2:
        yield from map(function, listed)
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # a line and a warning for every data set else
    made = ray.data.range(len(listed), override_num_blocks=len(listed)).map(_Applied(function, listed)).take_all()
    for row in sorted(made, key=lambda row: row["place"]):
        if isinstance(row["made"], Exception):
            raise row["made"]
        yield row["made"]


class _Applied:
    """A function of an item as one of a row; what it raises is its value, so that Ray neither tries again nor logs it."""

    def __init__(self, function: Callable[[Any], Any], items: list[Any]) -> None:
        self.function, self.items = function, items

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            made = self.function(self.items[row["id"]])
        except Exception as error:  # noqa: BLE001 - what leaves the worker must not quote a record
            made = told(error)
        return {"place": row["id"], "made": made}
