"""Records of measures: what is known about labels, risks, rankings, samples and reasoning.
docs/evaluation.md defines each."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from ehrmind.runs.records.base import Interval95, Record


class WeightedMeasures(Record):
    """Measures with every label weighted alike."""

    macro_f1: float
    kappa: float


class RiskBin(Record):
    """A tenth of the predicted risk: the mean risk and the share in which the outcome occurred."""

    risk: float
    observed: float
    n: int


class RiskMeasures(Record):
    """Measures of the risk that a label is above the first. `auroc` and `auprc` are None where only
    one outcome occurs; `ci95` is absent there, and where too few resamples have both outcomes."""

    n: int
    positive: int
    subjects: int
    auroc: float | None
    auprc: float | None
    brier: float
    ci95: Mapping[str, Interval95] = Field(default_factory=dict)  # by auroc, auprc, brier
    f1: float
    balanced_accuracy: float | None
    calibration: tuple[RiskBin, ...]


class RankingMeasures(Record):
    """Means over the topics that have an eligible trial."""

    topics: int
    topics_without_eligible: int
    ndcg_at_10: float = Field(alias="ndcg@10")
    p_at_10: float = Field(alias="p@10")
    r_precision: float
    mrr: float


class LabelMeasures(Record):
    """Measures of one task whose answers are labels. `confusion` has a row per true label and a
    column per answer, the malformed answers last. `risk` is there for coded histories, `ranking`
    for trials (None: it could not be computed)."""

    n: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    kappa: float
    balanced: WeightedMeasures
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    risk: RiskMeasures | None = None
    ranking: RankingMeasures | None = None


class Guess(Record):
    """A baseline's answer to one case, as JSON text in the form of a model's answer block; None: it
    has none. `probabilities` are those of the labels, where the answer is one."""

    answer: str | None
    probabilities: tuple[float, ...] | None = None


class Guesses(Record):
    """protected/baselines.json: the answers of every baseline, by set of cases, baseline and
    case."""

    answers: Mapping[str, Mapping[str, Mapping[str, Guess]]]


class CurvePoint(Record):
    """A figure of k samples, such as pass@k. `interval` names the method of `ci95`."""

    k: int
    value: float
    ci95: Interval95
    interval: str


class ConfidenceBin(Record):
    """A tenth of the confidence: its mean, and the share of right answers."""

    confidence: float
    right: float
    n: int


class Calibration(Record):
    """How well agreement among samples works as a confidence: Brier score and expected calibration
    error."""

    brier: float
    ece: float
    bins: tuple[ConfidenceBin, ...]


class CoveragePoint(Record):
    """The accuracy on questions with at least this confidence, and the share of questions that have
    it."""

    threshold: float
    coverage: float
    accuracy: float


class Coverage(Record):
    """Accuracy against coverage; `aurc` is the area under the curve of risk against coverage."""

    points: tuple[CoveragePoint, ...]
    aurc: float


class RepeatedSamples(Record):
    """Figures of several samples of every held-out question (`evaluate.repeats`)."""

    samples: int
    questions: int
    unparsed: int
    pass_at: tuple[CurvePoint, ...] = Field(alias="pass")
    majority: tuple[CurvePoint, ...]
    calibration: Calibration
    coverage: Coverage


class CheckedPart(Record):
    """One part of the process audit over all answers: how many things it checked and how many
    passed. A pool of several seeds also has the share of each seed."""

    checked: int
    passed: int
    share: float
    ci95: Interval95
    per_seed: tuple[float, ...] = ()


class FlawedReasoning(Record):
    """Right answers, and how many of them rest on flawed reasoning. A pool of several seeds also
    has the share of each seed that has right answers."""

    n: int
    flawed: int
    share: float
    ci95: Interval95
    per_seed: tuple[float, ...] = ()


class FindingCount(Record):
    """How often the process audit found one thing."""

    part: str
    what: str
    times: int


class ProcessFigures(Record):
    """The process audit of an arm's answers. A part is None where there was nothing to check."""

    grounding: CheckedPart | None
    entities: CheckedPart | None
    formula: CheckedPart | None
    arithmetic: CheckedPart | None
    conclusion: CheckedPart | None
    leak: CheckedPart | None
    right_but_flawed: FlawedReasoning | None
    findings: tuple[FindingCount, ...]

    def part(self, name: str) -> CheckedPart | None:
        """Returns one of `process_audit.PARTS`."""
        found: CheckedPart | None = getattr(self, name)
        return found


class SharedText(Record):
    """Held-out cases that share text with one thing that was learned from: any run of words, half
    of theirs, the mean share."""

    any: int
    half: int
    mean_share: float


class TemplateText(Record):
    """Runs of words that occur in more held-out groups than the limit, and so do not count."""

    in_more_groups_than: int
    runs: int


class Contamination(Record):
    """Text that one set of held-out cases shares with what was learned from, in runs of `words`
    words."""

    words: int
    cases: int
    too_short: int
    template_only: int
    template: TemplateText
    against: Mapping[str, SharedText]  # by train, tuning, teacher
