"""Records of the marks of finished stages, stages/STAGE.json, and of provenance.json."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from ehrmind.runs.records.base import JsonObject, Record
from ehrmind.runs.records.pilot import Diagnosis


class Mark(Record):
    """A finished stage and the seconds it took."""

    seconds: float


class ProvenCases(Record):
    """How many cases and corruptions the verifier was tried on before the run."""

    cases: int
    corruptions: int


class DataFacts(Record):
    """The data that were read. The facts of a source are its reader's own (docs/your-data.md)."""

    sources: Mapping[str, JsonObject]  # by split
    proven: ProvenCases
    histories: Mapping[str, JsonObject] = Field(default_factory=dict)  # by split
    digest: str
    cases: Mapping[str, int]
    train_notes_also_held_out_dropped: int


class DataMark(DataFacts, Mark):
    """stages/data.json."""


class ModelMark(Mark):
    """stages/model.json: the family of the tiny model that was built."""

    built: str


class PilotMark(Diagnosis, Mark):
    """stages/pilot.json."""

    def diagnosis(self) -> Diagnosis:
        """Returns what pilot.json holds."""
        tree = self.to_dict()
        del tree["seconds"]
        return Diagnosis.from_dict(tree, "stages/pilot.json")


class OutcomeMeans(Record):
    """Means over all answers; `length` is in tokens."""

    reward: float
    accuracy: float
    format_rate: float
    truncated: float
    length: float


class ScoringFacts(Record):
    """Facts of scoring one arm under one decoding. The keys after `length` are there for
    endpoints only."""

    held_out: int
    prompts_too_long: int
    reward: float
    accuracy: float
    format_rate: float
    truncated: float
    length: float
    unanswered: int | None = None
    model: str | None = None
    answers: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    failed_attempts: Mapping[str, int] = Field(default_factory=dict)


class ScoringMark(ScoringFacts, Mark):
    """stages/evaluate-ARM-DECODING.json and those of transfer sets and samples."""


class TeacherFacts(Record):
    """Counts of the teacher's questions and answers. `short` has how many worked answers are
    missing by stratum and label."""

    asked: int
    accepted: int
    refused: Mapping[str, int]
    by_label: Mapping[str, Mapping[str, int]]
    short: Mapping[str, Mapping[str, int]]
    model: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    failed_attempts: Mapping[str, int]


class ResamplingRound(Record):
    """A further round over the questions that the model had not yet answered right."""

    questions: int
    answers: int
    newly_solved: int


class TraceOrigin(Record):
    """The origin of traces: exactly one of a teacher, the data or calculators
    (`without_reasoning` counts bare answers), and further rounds of the model's own samples (absent
    where no round was needed)."""

    teacher: TeacherFacts | None = None
    without_reasoning: int | None = None
    rounds: tuple[ResamplingRound, ...] = ()


class TraceCounts(Record):
    """The traces of a warm-up: how many there are, and why others were left out."""

    traces: int
    by_stratum: Mapping[str, int]
    left_out: Mapping[str, int]
    teacher: TeacherFacts | None = None  # of the three, as in TraceOrigin
    without_reasoning: int | None = None
    rounds: tuple[ResamplingRound, ...] = ()
    rehearsed: int


class _Steps(Record):
    steps: int


class WarmupFacts(TraceCounts, _Steps):
    """Facts of a warm-up. `saved` is the proof that the stored model is the trained
    one."""

    saved: JsonObject


class WarmupMark(WarmupFacts, Mark):
    """stages/warmup.json."""

    model_sha256: Mapping[str, str] = Field(default_factory=dict)


class RlvrFacts(Record):
    """The questions that RLVR asked and the weights that it kept. `stopped` says why it ended
    early, if it did."""

    questions: int
    left_out_too_long: int
    left_out_of_mix: Mapping[str, int]
    asked: Mapping[str, int]
    asked_by_stratum: Mapping[str, int]
    in_train_by_stratum: Mapping[str, int]
    class_weights: Mapping[str, Mapping[str, float]]
    step: int
    best: float
    best_step: int
    stopped: str | None
    saved: JsonObject
    best_standard_error: float


class RlvrMark(RlvrFacts, Mark):
    """stages/rlvr-ARM.json."""

    model_sha256: Mapping[str, str] = Field(default_factory=dict)


class BaselinesMark(Mark):
    """stages/baselines.json: the number of cases that each baseline is made for, by set of
    cases."""

    cases: Mapping[str, Mapping[str, int]]


class SeedsMark(Mark):
    """stages/seeds.json: the seeds that are pooled, and the digest of each one's results.json."""

    seeds: tuple[int, ...]
    of: Mapping[str, str]


class ModelProvenance(Record):
    """The model that a run starts from. `generation_advice` is what its makers advise and the run
    leaves out."""

    name: str
    revision: str | None
    sha256: Mapping[str, str]
    generation_advice: JsonObject = Field(default_factory=dict)
    dropout_set_to_0: Mapping[str, float] = Field(default_factory=dict)


class Provenance(Record):
    """provenance.json: what a run's figures depend on. It holds no absolute path and nothing of a
    record."""

    recipe_digest: str
    seed: int
    data: DataFacts
    model: ModelProvenance
    versions: Mapping[str, str]
    platform: str
    date: str  # the day that the prompts are written for
    stages: tuple[str, ...] = ()  # that the last command asked for; empty in a folder of 0.1.0: all
