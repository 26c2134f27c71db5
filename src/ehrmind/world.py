"""The workers of a run: processes that all run the same stages, each sampling and learning the shards it holds.

`current()` is who we are: alone, or one of the workers that torchrun or Ray Train started. All workers take the same way through the
stages, so every call below is made by all of them, in the same order. What they tell each other is JSON or bytes; nothing is unpickled.
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
JSON, BYTES, REFUSED = b"J", b"B", b"R"  # what a message's first byte says of the rest
RESTARTS = "TORCHELASTIC_RESTART_COUNT"
GRACE = 5.0  # seconds; torchrun looks after its workers several times in one
PATIENCE = timedelta(
    days=7
)  # one worker may ask an endpoint for days while the others wait; a dead one is noticed by its connection


@dataclass(frozen=True)
class World:
    """Worker `rank` of `size`. Values are what JSON keeps (tuples arrive as lists), or bytes."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        """The one worker that reads, writes and speaks."""
        return self.rank == 0

    def gather(self, mine: T) -> list[T]:
        """Everybody's value, by rank."""
        if self.size == 1:
            return [mine]
        return [_read(message) for message in _all_messages(_written(mine), self.size)]

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first worker makes, for all; the others wait. While it makes it, it is alone. An InputError is raised by all."""
        if self.size == 1:
            return make()
        if not self.first:
            told: T = _read(_from_first(None))
            return told
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
        """The shards that this worker holds. Raises InputError where they cannot be dealt evenly."""
        if shards % self.size:
            raise InputError(
                f"shards={shards} cannot be dealt evenly to cluster.workers={self.size}; set shards to a multiple of it."
            )
        each = shards // self.size
        return range(self.rank * each, (self.rank + 1) * each)


ALONE = World(0, 1)
_acting_alone: ContextVar[bool] = ContextVar("acting_alone", default=False)
_speaks: ContextVar[bool] = ContextVar("speaks", default=False)  # for all workers, of what went wrong


def current() -> World:
    """Who we are. Imports nothing: where torch's process group was not set up, we are alone."""
    distributed = sys.modules.get("torch.distributed")
    if _acting_alone.get() or distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return ALONE
    return World(distributed.get_rank(), distributed.get_world_size())


def on_first(act: Callable[P, T]) -> Callable[P, T]:
    """A function that touches a folder which all workers share: the first does it, and what it returns is told to all, so that a file
    system that is slow to show what was written cannot part them."""

    @wraps(act)
    def told(*args: P.args, **options: P.kwargs) -> T:
        return current().from_first(lambda: act(*args, **options))

    return told


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Under torchrun (or where the variables that it sets are set): the process group, until the block ends. `device` is auto, cpu or cuda.
    Where a group is there already, as under Ray Train, or nobody set the variables, nothing is done."""
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
        distributed.barrier(group=_group())  # nobody hangs up while another still talks
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # told by the command line, as any other
        if store.add(f"failed {os.environ.get(RESTARTS)}", 1) > 1:
            raise SystemExit(1) from None  # another worker says what went wrong
        _speaks.set(True)
        raise (_lost() if is_of_connection(error) else error) from None
    _group_beside.cache_clear()
    distributed.destroy_process_group()


def wait_for_the_first_to_speak() -> None:
    """Before an error is said: workers that torchrun started, and that do not know each other yet, may all have the same one (a recipe that
    is none). Then the first says it, and torchrun ends the others while they wait here; else each says its own."""
    if int(os.environ.get("RANK", "0")) > 0 and not _speaks.get():
        time.sleep(GRACE)


def is_restarted() -> bool:
    """Whether torchrun has started these workers anew after some of them were lost: they go on where those were."""
    return int(os.environ.get(RESTARTS, "0")) > 0


def is_of_connection(error: BaseException) -> bool:
    """Whether it is how another worker's end looks from here."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or (type(error) is RuntimeError and "gloo" in str(error).lower())


def _lost() -> InputError:
    return InputError(
        "Another worker was lost: killed, out of memory, or its machine is gone. What was finished is kept, and the same command with "
        "--resume goes on."
    )


def workers_here() -> int:
    """On this machine, ourselves included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if current().size > 1 else 1


def threads_of_each() -> int | None:
    """CPU threads of a worker that shares its machine: an even part of the cores. None for one that has it alone. torchrun sets
    OMP_NUM_THREADS to 1 unless told otherwise, so that variable says nothing here."""
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
    """Lengths first, then all messages padded to the longest: gloo gathers tensors of one size."""
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
    """The first worker's message; `mine` is None with the others."""
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
    """gloo's, whatever the gradients go through, and as patient as needed, whatever timeout the default group was given."""
    from torch import distributed

    return _group_beside(distributed.group.WORLD)


@lru_cache(maxsize=1)
def _group_beside(default: Any) -> Any:
    from torch import distributed

    return distributed.new_group(backend="gloo", timeout=PATIENCE)
