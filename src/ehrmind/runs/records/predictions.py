"""Records of the folder of `ehrmind predict`: asked.json and provenance.json."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from ehrmind.runs.records.base import JsonObject, Record


class PredictingModel(Record):
    """The model that is asked: a local one with `arm` and `sha256`, or one behind an endpoint with
    `served` (its URL) and `body`."""

    name: str
    arm: str | None = None
    sha256: Mapping[str, str] = Field(default_factory=dict)
    served: str | None = None
    body: JsonObject = Field(default_factory=dict)


class PredictedData(Record):
    """The cases: their file's name, their number and the digest of all that they say."""

    name: str
    cases: int
    sha256: str


class Asked(Record):
    """asked.json: what the predictions depend on. `settings` is a tree of `config.Predict`."""

    model: PredictingModel
    data: PredictedData
    settings: JsonObject


class PredictionCounts(Record):
    """Counts of the cases by outcome; `reasons` counts why some have no answer."""

    cases: int
    answered: int
    abstained: int
    reasons: Mapping[str, int]
    tokens: int


class PredictionProvenance(Asked):
    """provenance.json of a finished prediction."""

    counts: PredictionCounts
    versions: Mapping[str, str]
