"""The workers of a run: processes that all run the same stages, each sampling and learning the
shards it holds.

`current()` tells who we are: alone, or one of the workers that torchrun or Ray Train started. All
workers go through the stages in the same way, so all of them make every call below, in the same
order. They exchange JSON or bytes; nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

from ehrmind.types import InputError

T = TypeVar("T")
P = ParamSpec("P")
JSON, BYTES, REFUSED = b"J", b"B", b"R"  # the first byte of a message says what the rest is
RESTARTS = "TORCHELASTIC_RESTART_COUNT"
GRACE = 5.0  # seconds; torchrun checks its workers several times a second
# One worker may wait for an endpoint for days while the others wait for it. A dead worker is
# noticed by its connection.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class World:
    """Worker `rank` of `size`. Values are anything that JSON keeps (tuples arrive as lists), or
    bytes."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        """True for rank 0, the one worker that reads, writes and reports."""
        return self.rank == 0

    def gather(self, mine: T) -> list[T]:
        """Returns every worker's value, by rank."""
        if self.size == 1:
            return [mine]
        return [_read(message) for message in _all_messages(_written(mine), self.size)]

    def from_first(self, make: Callable[[], T]) -> T:
        """Runs `make` on the first worker and returns its result on all; the others wait.

        While it runs, the first worker counts as alone. All workers raise its InputError.
        """
        if self.size == 1:
            return make()
        if not self.first:
            received: T = _read(_from_first(None))
            return received
        token = _acting_alone.set(True)
        try:
            made = make()
        except InputError as error:
            _from_first(REFUSED + str(error).encode("utf-8", "replace"))
            raise
        finally:
            _acting_alone.reset(token)
        _from_first(_written(made))
        return made

    def block(self, shards: int) -> range:
        """Returns the shards that this worker holds. Raises InputError if they cannot be dealt
        evenly."""
        if shards % self.size:
            raise InputError(
                f"shards={shards} cannot be dealt evenly to cluster.workers={self.size}; set shards to a multiple of "
                f"it."
            )
        each = shards // self.size
        return range(self.rank * each, (self.rank + 1) * each)


ALONE = World(0, 1)
_acting_alone: ContextVar[bool] = ContextVar("acting_alone", default=False)
# true in the worker that reports an error for all
_speaks: ContextVar[bool] = ContextVar("speaks", default=False)


def current() -> World:
    """Returns who we are. Imports nothing: without a torch process group we are alone."""
    distributed = sys.modules.get("torch.distributed")
    if _acting_alone.get() or distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return ALONE
    return World(distributed.get_rank(), distributed.get_world_size())


def on_first(act: Callable[P, T]) -> Callable[P, T]:
    """Makes a function run on the first worker only and return its result on all.

    For functions that touch a folder which all workers share: a file system that is slow to show
    what was written cannot make workers disagree.
    """

    @wraps(act)
    def shared(*args: P.args, **options: P.kwargs) -> T:
        return current().from_first(lambda: act(*args, **options))

    return shared


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Sets up the process group under torchrun (or if its variables are set), until the block ends.

    `device` is auto, cpu or cuda. Does nothing if a group exists already, as under Ray Train, or if
    the variables are not set.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or current().size > 1:
        yield current()
        return
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    here = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if cuda:
        if here >= torch.cuda.device_count():
            raise InputError(
                f"This machine has {torch.cuda.device_count()} GPUs, fewer than workers; start one worker a GPU."
            )
        torch.cuda.set_device(here)
    store, rank, size = next(iter(rendezvous("env://")))
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield current()
        distributed.barrier(group=_group())  # no worker leaves while another still communicates
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the command line reports it like any other
        if store.add(f"failed {os.environ.get(RESTARTS)}", 1) > 1:
            raise SystemExit(1) from None  # another worker reports the error
        _speaks.set(True)
        raise (_lost() if is_of_connection(error) else error) from None
    _group_beside.cache_clear()
    distributed.destroy_process_group()


def wait_for_the_first_to_speak() -> None:
    """Lets the first worker report an error that all of torchrun's workers may have, such as an
    invalid recipe. torchrun then ends the others while they wait here; if it does not, each reports
    its own."""
    if int(os.environ.get("RANK", "0")) > 0 and not _speaks.get():
        time.sleep(GRACE)


def is_restarted() -> bool:
    """True if torchrun has restarted these workers after some were lost. They continue where those
    were."""
    return int(os.environ.get(RESTARTS, "0")) > 0


def is_of_connection(error: BaseException) -> bool:
    """True if an error is how the end of another worker looks from here."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or (type(error) is RuntimeError and "gloo" in str(error).lower())


def _lost() -> InputError:
    return InputError(
        "Another worker was lost: killed, out of memory, or its machine is gone. What was finished is kept, and the "
        "same command with --resume goes on."
    )


def workers_here() -> int:
    """Counts the workers on this machine, ourselves included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if current().size > 1 else 1


def threads_of_each() -> int | None:
    """Returns the CPU threads of a worker that shares its machine: an even part of the cores. None
    if it has the machine alone. torchrun sets OMP_NUM_THREADS to 1 by default, so that says
    nothing."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers_here()) if workers_here() > 1 else None


def _written(value: Any) -> bytes:
    return BYTES + value if isinstance(value, bytes) else JSON + json.dumps(value).encode()


def _read(message: bytes) -> Any:
    kind, rest = message[:1], message[1:]
    if kind == REFUSED:
        raise InputError(rest.decode())
    return rest if kind == BYTES else json.loads(rest)


def _all_messages(mine: bytes, size: int) -> list[bytes]:
    """Sends lengths first, then all messages padded to the longest, because gloo gathers tensors of
    one size."""
    import torch
    from torch import distributed

    group = _group()
    lengths = [torch.zeros(1, dtype=torch.long) for _ in range(size)]
    distributed.all_gather(lengths, torch.tensor([len(mine)]), group=group)
    longest = max(int(length) for length in lengths)
    padded = torch.frombuffer(bytearray(mine.ljust(longest, b"\0")), dtype=torch.uint8)
    messages = [torch.empty(longest, dtype=torch.uint8) for _ in range(size)]
    distributed.all_gather(messages, padded, group=group)
    return [message[: int(length)].numpy().tobytes() for message, length in zip(messages, lengths, strict=True)]


def _from_first(mine: bytes | None) -> bytes:
    """Returns the first worker's message; on the others `mine` is None."""
    import torch
    from torch import distributed

    length = torch.tensor([len(mine or b"")])
    distributed.broadcast(length, src=0, group=_group())
    message = (
        torch.empty(int(length), dtype=torch.uint8)
        if mine is None
        else torch.frombuffer(bytearray(mine), dtype=torch.uint8)
    )
    distributed.broadcast(message, src=0, group=_group())
    return mine if mine is not None else message.numpy().tobytes()


def _group() -> Any:
    """Returns a gloo group, whatever the gradients use, with our own timeout instead of the default
    group's."""
    from torch import distributed

    return _group_beside(distributed.group.WORLD)


@lru_cache(maxsize=1)
def _group_beside(default: Any) -> Any:
    from torch import distributed

    return distributed.new_group(backend="gloo", timeout=PATIENCE)
