"""The same function on each of many files. Here that is `map`; a cluster has another way, and no source knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")
Way = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

_way: ContextVar[Way] = ContextVar("way", default=map)


def each(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What the function makes of every item, in their order, one after another or at once. It may run in another process, so it must be a
    module's own, or a partial of one."""
    return _way.get()(function, items)


@contextmanager
def done_by(way: Way) -> Iterator[None]:
    """Another way for `each`, until the block ends."""
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)
