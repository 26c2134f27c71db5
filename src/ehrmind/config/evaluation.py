"""The recipe's `pilot` and `evaluate`: what is measured before training and after it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from ehrmind.config.data import DataSource
from ehrmind.config.section import Section


class Pilot(Section):
    """Samples k answers to questions of `train` to see what the base model can and cannot do."""

    questions: PositiveInt = Field(default=240, description="spread evenly over the strata")
    samples: PositiveInt = Field(default=8, description="answers to each: the k of pass@k")
    interventions: NonNegativeInt = Field(
        default=120,
        description="questions of strata that are not solid, asked again with help to find where they fail; 0: none",
    )


class General(Section):
    """General questions that every arm answers as the transfer set `general`: synthetic sums and
    short readings, or another source's.
    """

    n: PositiveInt = Field(default=200, description="how many synthetic ones")
    seed: int = Field(default=0, description="seed of the synthetic ones")
    source: DataSource | None = Field(default=None, description="instead of synthetic questions, such as a table")
    margin: float = Field(default=0.05, gt=0.0, lt=1.0, description="accuracy that a trained arm may lose against base")
    gate: bool = Field(
        default=False, description="fails the command (exit code 1) if an arm is not shown to stay within the margin"
    )


class Evaluate(Section):
    """How every arm is scored on the held-out cases."""

    decodings: list[Literal["greedy", "sampled"]] = Field(
        default=["greedy", "sampled"],
        min_length=1,
        description="the first is the headline; sampled is at decoding.temperature",
    )
    probabilities: Literal["answer_tokens", "samples"] = Field(
        default="answer_tokens",
        description="probabilities of labels: from the answer's tokens, or each label's share among further answers",
    )
    samples: PositiveInt = Field(
        default=8, description="further answers to every held-out case, with probabilities=samples"
    )
    shots: PositiveInt = Field(default=3, description="worked examples before a question, in arms with _few_shot")
    votes: PositiveInt = Field(default=8, description="samples to choose from, in arms with _majority and _best")
    repeats: int = Field(
        default=0,
        ge=0,
        description="samples of every held-out case, for pass@k, majority@k and agreement; 0: none",
    )
    general: General | None = Field(
        default=None, description="asks general questions too, to see what training makes a model forget"
    )
    baseline: bool = Field(
        default=True,
        description="adds baselines without a language model: commonest answer or label of train, bag of words, "
        "gradient boosting on counts of codes",
    )
    trec_runs: bool = Field(
        default=False, description="for patient-trial matching: writes a TREC run file per arm and decoding"
    )
    scorer: Literal["ehrmind", "benchmark"] = Field(
        default="ehrmind", description="the headline scorer; both are always shown"
    )
