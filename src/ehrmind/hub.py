"""Wraps the Hugging Face hub's client: which hub, errors of one sentence, downloads that end. Data
sets and models share it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ehrmind.types import InputError

COMMIT = re.compile(r"[0-9a-f]{40}")
_RESTARTS = 3


def endpoint() -> str | None:
    """Returns the hub's address if it is not the usual one. Read on each call, because the client
    keeps what it saw at import."""
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def clear_errors(what: str) -> Iterator[None]:
    """Turns the hub client's errors, some of them pages long, into one sentence each."""
    from huggingface_hub import errors

    # The client's HTTP library has changed over its versions; the bases of the client's own error
    # lead to it.
    broken: tuple[type[BaseException], ...] = (OSError, ValueError, *errors.HfHubHTTPError.__bases__)
    try:
        yield
    except InputError:
        raise
    except errors.GatedRepoError:
        raise InputError(
            f"{what} is behind an agreement; accept it on the hub's page and log in with `hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{what} is not on the hub, or not for you to see; check its spelling, or log in with `hf auth login`."
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{what} does not exist on the hub; give a branch, tag or commit that does.") from None
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise InputError(f"{what} cannot be reached; check the network and try again.") from None
        raise InputError(f"{what} is not on the hub.") from None
    except broken as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise InputError(
                f"{what} does not fit on the disk of the hub's local cache; make room, or set HF_HOME."
            ) from None
        if type(error).__name__.startswith("Connect"):  # ConnectError, ConnectTimeout of the HTTP library
            raise InputError(f"{what} cannot be reached; check the network and try again.") from None
        raise InputError(
            f"{what} did not arrive whole ({type(error).__name__}); nothing half-written was kept, try again."
        ) from None


def bar_with_an_end() -> Any:
    """Returns the client's progress bar with a limit on restarts.

    If a server cannot resume and keeps closing the connection, the client starts over for ever. The
    bar gets every byte and every start from zero, so it can give up.
    """
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        restarts = 0

        def update(self, n: float | None = 1) -> bool | None:
            self.restarts += (n or 0) < 0
            if self.restarts > _RESTARTS:
                raise ConnectionError("the connection keeps closing")
            return super().update(n)

    return Bar
