"""The recipe's other parts: model, prompts, decoding, and a part for every stage. Defaults are the paper's where it states them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ehrmind.config.data import History
from ehrmind.config.section import Section


class TinyModel(Section):
    """A small model built here: random weights, a BPE tokenizer trained on made-up text only."""

    family: Literal["llama", "qwen3", "gemma3"] = "llama"
    hidden: PositiveInt = 128
    layers: PositiveInt = 4
    heads: PositiveInt = 4
    vocabulary: PositiveInt = 1024
    context: PositiveInt = 4096
    sliding_window: PositiveInt | None = None


class Lora(Section):
    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    targets: list[str] | Literal["all-linear"] = "all-linear"


class Model(Section):
    """`name` takes any causal LM `transformers` loads from a directory or the hub's cache; `tiny` builds one."""

    name: str | None = None
    tiny: TinyModel | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    autocast: bool = Field(default=False, description="bf16 autocast in training")
    lora: Lora | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    template: dict[str, Any] = Field(default={}, description="extra arguments of the chat template, such as enable_thinking")

    @model_validator(mode="after")
    def one_model(self) -> Model:
        if (self.name is None) == (self.tiny is None):
            raise ValueError("give exactly one of name and tiny")
        return self


class Prompts(Section):
    """Of every family; `history` is for coded records."""

    think: bool = Field(default=True, description="ask for a <think> block before the answer")
    max_tokens: PositiveInt = Field(default=2048, description="of a prompt, the chat template's included")
    history: History = History()
    too_long: Literal["refuse", "leave_out"] = Field(
        default="refuse", description="a prompt that is left out of training is counted; in evaluation it scores as wrong"
    )


class Decoding(Section):
    """Sampling; temperature 0 is greedy. Top-p (the paper: 0.95) and top-k are off: a filter biases the log-probabilities."""

    temperature: NonNegativeFloat = 0.6
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: PositiveInt = 512


class Optimiser(Section):
    learning_rate: PositiveFloat = 1e-6
    warmup_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    schedule: Literal["cosine", "constant"] = "cosine"
    final_share: float = Field(default=0.1, ge=0.0, le=1.0, description="cosine ends at this share of the learning rate")
    weight_decay: NonNegativeFloat = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    max_gradient_norm: PositiveFloat = 1.0
    tokens_per_microbatch: PositiveInt = Field(default=16384, description="packed tokens computed at once; never by free memory")
    gradient_checkpointing: bool = False


class Pilot(Section):
    """Samples k answers to questions of `train` to see what the base model can and cannot do."""

    questions: PositiveInt = Field(default=240, description="spread evenly over the strata")
    samples: PositiveInt = 8


class Warmup(Optimiser):
    """Supervised warm-up on gold responses. Defaults are the paper's."""

    learning_rate: PositiveFloat = 2e-5
    strata: Literal["missing", "all"] | list[str] = Field(default="all", description="`missing`: where the pilot saw no right answer")
    traces: Literal["source", "calculators", "pilot"] = Field(
        default="source",
        description="worked answers: the data's own; written from the calculators' steps in several styles; or the model's own right "
        "answers in the pilot (rejection sampling), for data without explanations",
    )
    traces_per_stratum: PositiveInt | None = None
    rehearsal: NonNegativeFloat = Field(default=0.0, description="answers of the pilot in the other strata to learn again, per trace")
    epochs: PositiveInt = 2
    batch: PositiveInt = 16
    checkpoint_every: PositiveInt = 50

    @model_validator(mode="after")
    def something_to_rehearse(self) -> Warmup:
        if self.rehearsal and self.strata == "all":
            raise ValueError("rehearsal keeps the strata that are not warmed up, and strata=all leaves none; name them, or use missing")
        return self


class Rlvr(Optimiser):
    """GRPO and its relatives. Defaults are the paper's (arXiv 2505.24105) where it states them."""

    steps: PositiveInt = 100
    questions_per_step: PositiveInt = 32
    samples: PositiveInt = Field(default=12, ge=2)
    advantage: Literal["grpo", "dr_grpo", "rloo"] = "grpo"
    loss: Literal["grpo", "dapo", "dr_grpo"] = Field(default="dapo", description="divided by: answer, batch's tokens, a constant")
    importance: Literal["token", "sequence"] = "token"
    clip_low: NonNegativeFloat = 0.2
    clip_high: NonNegativeFloat = 0.2
    kl: NonNegativeFloat = Field(default=0.001, description="k3 against the frozen starting model; 0 keeps no reference")
    epochs_per_batch: PositiveInt = 1
    mask_truncated: bool = Field(default=False, description="answers cut at the token limit leave the loss")
    refill: int = Field(default=0, ge=0, description="rounds of fresh questions in place of all-equal groups")
    shards: PositiveInt = Field(default=1, description="gradient shards, summed in order; part of the result, unlike workers")
    tuning_every: PositiveInt = 20
    checkpoint_every: PositiveInt = 10


class Evaluate(Section):
    decodings: list[Literal["greedy", "sampled"]] = Field(default=["greedy", "sampled"], min_length=1)
    probabilities: Literal["answer_tokens", "samples"] = Field(
        default="answer_tokens", description="of labels: those of the answer's place, or each label's share among further answers"
    )
    samples: PositiveInt = Field(default=8, description="further answers to every held-out case, where probabilities are samples'")
    baseline: bool = Field(default=True, description="for coded histories: gradient boosting on counts of codes beside the arms")
    trec_runs: bool = Field(default=False, description="also write a TREC run file per arm and decoding, of patient-trial matching")
    scorer: Literal["ehrmind", "benchmark"] = Field(default="ehrmind", description="the headline scorer; both are always shown")


class Tracking(Section):
    tensorboard: bool = Field(default=False, description="also write the curves for TensorBoard, from metrics.jsonl")
