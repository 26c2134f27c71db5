"""Applies a function to many files: by `map`, or in parallel if a cluster replaces `map`."""

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
    """Applies the function to every item, one after another or in parallel, and keeps their order.

    It may run in another process, so it must be a function of a module, or a partial of one.
    """
    return _way.get()(function, items)


@contextmanager
def done_by(way: Way) -> Iterator[None]:
    """Makes `each` use `way` until the block ends."""
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)
