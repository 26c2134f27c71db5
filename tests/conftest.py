"""What every test may use: the folder of development data, and property tests that do not fail on a busy machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real rows for development, never part of the project: EHRMIND_DATA, or a `shared` folder beside the checkout."""
    folder = Path(os.environ.get("EHRMIND_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}; set EHRMIND_DATA to test on real rows")
    return folder
