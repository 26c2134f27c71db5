"""Records of exported folders, ehrmind.json: of a model directory, and of a folder for another
trainer."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from ehrmind.runs.records.base import JsonObject, Record
from ehrmind.runs.records.marks import ModelProvenance


class ExportedModel(Record):
    """A model directory: what it was trained on, and how it was asked. `restricted` is None if
    nobody knows; `asks` is a tree of `config.Predict`; `stop` are words that end a turn if no token
    does. Keys after `asks` are there for models of a run."""

    ehrmind: str = ""  # version
    name: str = ""
    arm: str | None = None
    restricted: bool | None = None
    asks: JsonObject = Field(default_factory=dict)
    restricted_because: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    base_model: ModelProvenance | None = None
    recipe_digest: str | None = None
    data_digest: str | None = None
    histories: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)  # data sets and digests by split
    stop: str = ""
    sha256: Mapping[str, str] = Field(default_factory=dict)


class TrainerExport(Record):
    """A folder for another trainer. `trainer` has its name and version."""

    ehrmind: str
    trainer: Mapping[str, str] = Field(alias="for")
    restricted: bool
    restricted_because: tuple[str, ...]
    cases: Mapping[str, int]  # by split
    left_out: JsonObject
    longest_prompt: int
    measured: bool
    recipe_digest: str
    data_digest: str
    recipe: JsonObject
