"""The record of results.json: every arm side by side, and every pair of arms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field

from ehrmind.runs.records.base import SCHEMA_VERSION, Interval95, Record
from ehrmind.runs.records.lines import Alarm, Scoring
from ehrmind.runs.records.measures import Contamination, LabelMeasures, ProcessFigures, RepeatedSamples
from ehrmind.types import InputError


class Accuracy(Record):
    """The accuracy on some cases. `groups` counts their patients or notes; `interval` names the
    method of `ci95`. A pool of several seeds also has the accuracy of each seed and their standard
    deviation."""

    n: int
    correct: int
    accuracy: float
    ci95: Interval95
    groups: int
    interval: str
    per_seed: tuple[float, ...] = ()
    sd: float | None = None


class Cost(Record):
    """The cost of scoring an arm. `seconds` is there in the headline comparison of one seed
    only."""

    tokens: int
    prompt_tokens: int
    seconds: float | None = None


class EndpointCost(Record):
    """The cost of asking an endpoint; `cost` is by the recipe's price."""

    model: str | None = None
    answers: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    unanswered: int | None = None


class ArmResult(Accuracy):
    """One arm in one comparison. Only the headline comparison has `by_category` and what follows
    it."""

    unparsed: int
    cost: Cost
    by_stratum: Mapping[str, Accuracy]
    measures: Mapping[str, LabelMeasures] = Field(default_factory=dict)  # by family/task
    by_category: Mapping[str, Accuracy] = Field(default_factory=dict)
    by_seen: Mapping[str, Accuracy] = Field(default_factory=dict)  # "seen" in train, or "unseen"
    subgroups: Mapping[str, Mapping[str, Accuracy]] = Field(default_factory=dict)  # by age and sex
    repeated: RepeatedSamples | None = None
    process: ProcessFigures | None = None
    endpoint: EndpointCost | None = None


class PairResult(Record):
    """The accuracy of the later arm minus that of the earlier one on the same cases. `p_holm` and
    `p_bh` are corrected for the number of pairs. A pool of several seeds also has the difference of
    each seed and their standard deviation."""

    difference: float
    sd: float | None = None
    ci95: Interval95
    per_seed: tuple[float, ...] = ()
    p: float
    interval: str
    p_holm: float | None = None
    p_bh: float | None = None


class BaselineAccuracy(Accuracy):
    """A baseline, which is no language model, on those of the cases that it is made for.
    `unanswered` counts cases without an answer, which are wrong. `differences` are each arm's
    accuracy minus the baseline's on these cases, by arm."""

    unanswered: int
    by_stratum: Mapping[str, Accuracy]
    differences: Mapping[str, PairResult]


class Comparison(Record):
    """Arms on the same cases under one decoding and one scorer. The key of a pair is
    "LATER-EARLIER"."""

    arms: Mapping[str, ArmResult]
    pairs: Mapping[str, PairResult]
    baseline_accuracy: Mapping[str, BaselineAccuracy] = Field(default_factory=dict)  # by baseline


class ForgettingOfArm(PairResult):
    """A trained arm against base on general questions. `kept`: not inferior by more than the
    margin; `lost`: surely worse."""

    kept: bool
    lost: bool


class Forgetting(Record):
    """The accuracy on general questions that training cost. `gate` says whether a loss fails the
    run."""

    margin: float
    gate: bool
    n: int
    base: float
    arms: Mapping[str, ForgettingOfArm]


class HeldOutSet(Record):
    """Identity of a set of held-out cases, so that runs are compared on the same ones."""

    n: int
    families: tuple[str, ...]
    digest: str


class Versioned(Record):
    """A record with the version of its shape, which is its first key."""

    schema_version: Literal[1]


class Results(Comparison, Versioned):
    """results.json. `arms` and `pairs` are the headline comparison: the held-out cases under
    `decoding`, scored by `scorer`. The others are `greedy` or `sampled` (the recipe's other
    decoding) and `ehrmind` or `benchmark` (the other scorer)."""

    decoding: str
    scorer: str
    greedy: Comparison | None = None
    sampled: Comparison | None = None
    ehrmind: Comparison | None = None
    benchmark: Comparison | None = None
    transfer: Mapping[str, Comparison] = Field(default_factory=dict)  # by the set's name
    forgetting: Forgetting | None = None
    probabilities: str | None = None  # where the labels' probabilities come from
    baselines: Mapping[str, Mapping[str, LabelMeasures]] = Field(default_factory=dict)  # by model and family/task
    contamination: Mapping[str, Contamination] = Field(default_factory=dict)  # by set of held-out cases
    test_sets: Mapping[str, HeldOutSet] = Field(default_factory=dict)
    seeds: tuple[int, ...] = ()  # of a pool
    alarms: tuple[Alarm, ...] = ()
    held_out_scorings: tuple[Scoring, ...]
    seconds: Mapping[str, float]  # by stage

    def views(self) -> Iterator[tuple[str, str, Comparison]]:
        """Yields (decoding, scorer, comparison): the headline first, then the other decoding, then
        the other scorer."""
        yield self.decoding, self.scorer, self
        for decoding, view in (("greedy", self.greedy), ("sampled", self.sampled)):
            if view is not None:
                yield decoding, self.scorer, view
        for scorer, view in (("ehrmind", self.ehrmind), ("benchmark", self.benchmark)):
            if view is not None:
                yield self.decoding, scorer, view

    @classmethod
    def from_dict(cls, tree: object, place: str) -> Self:
        """As `Record.from_dict`. A file of another schema version is refused by its version
        alone."""
        version = tree.get("schema_version") if isinstance(tree, dict) else None
        if version != SCHEMA_VERSION:
            made = "before results had a schema version" if version is None else f"with schema version {version!r:.20}"
            raise InputError(
                f"{place} was written {made}, and this version of ehrmind reads {SCHEMA_VERSION}; use the version that "
                "made it, or run the recipe again into a new folder."
            )
        return super().from_dict(tree, place)
