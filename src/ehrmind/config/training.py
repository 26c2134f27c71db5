"""The recipe's `warmup` and `rlvr`. Defaults are the paper's (arXiv 2505.24105) where it states
them.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ehrmind import tasks
from ehrmind.config.choices import OneOf
from ehrmind.config.section import Section
from ehrmind.rl.advantages import ADVANTAGES
from ehrmind.rl.losses import IMPORTANCE, LOSSES


class Optimiser(Section):
    """AdamW, its schedule, and the size of what is computed at once."""

    learning_rate: PositiveFloat = Field(default=1e-6, description="the highest learning rate of AdamW")
    warmup_share: float = Field(
        default=0.1, ge=0.0, lt=1.0, description="share of the steps in which the learning rate rises"
    )
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="schedule of the learning rate after that"
    )
    final_share: float = Field(
        default=0.1, ge=0.0, le=1.0, description="cosine ends at this share of the learning rate"
    )
    weight_decay: NonNegativeFloat = Field(
        default=0.0, description="weight decay of AdamW, on all weights that are trained"
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="decay rates of AdamW's two moments")
    max_gradient_norm: PositiveFloat = Field(default=1.0, description="a longer gradient is scaled down to it")
    tokens_per_microbatch: PositiveInt = Field(
        default=16384, description="packed tokens computed at once; never chosen by free memory"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="computes activations twice: less memory, more time"
    )


class Warmup(Optimiser):
    """Supervised fine-tuning on gold responses. Defaults are the paper's."""

    learning_rate: PositiveFloat = Field(default=2e-5, description="the highest learning rate of AdamW")
    strata: Literal["missing", "all"] | list[str] = Field(
        default="all", description="`missing`: those whose knowledge the pilot found missing"
    )
    traces: Literal["source", "calculators", "pilot", "teacher"] = Field(
        default="source",
        description=(
            "worked answers: the data's own; written from the calculators' steps in several styles; the model's own"
            " right answers in the pilot (rejection sampling), for data without explanations; or those of `teacher`, a"
            " model that sees the answers"
        ),
    )
    rounds: int = Field(
        default=0,
        ge=0,
        description="with traces=pilot: how often its questions without a right answer are sampled again",
    )
    traces_per_stratum: PositiveInt | None = Field(
        default=None, description="the most worked answers for each stratum; all by default"
    )
    audited: bool = Field(
        default=False,
        description="keeps only worked answers that the process audit finds sound: nothing wrong in the thinking, and"
        " at least half of the formula shown",
    )
    rehearsal: NonNegativeFloat = Field(
        default=0.0, description="answers in the other strata per trace, learned as well"
    )
    rehearse: Literal["own", "worked"] = Field(
        default="own",
        description="answers for rehearsal: the base's own in the pilot, right or wrong, or worked ones",
    )
    epochs: PositiveInt = Field(default=2, description="passes over the worked answers")
    batch: PositiveInt = Field(default=16, description="worked answers in a step")
    checkpoint_every: PositiveInt = Field(default=50, description="steps between checkpoints")

    @model_validator(mode="after")
    def something_to_rehearse(self) -> Warmup:
        if self.rehearsal and self.strata == "all":
            raise ValueError(
                "rehearsal keeps the strata that are not warmed up, and strata=all leaves none; name them, or use"
                " missing"
            )
        if self.rehearse == "worked" and self.traces in ("pilot", "teacher"):
            raise ValueError(
                f"rehearse=worked takes worked answers that are there, and traces={self.traces} makes its own; use"
                " rehearse=own"
            )
        return self


class Rlvr(Optimiser):
    """GRPO and its relatives. Defaults are the paper's (arXiv 2505.24105) where it states them."""

    steps: PositiveInt = Field(
        default=100, description="batches of questions that are answered, judged and learned from"
    )
    questions_per_step: PositiveInt = Field(default=32, description="all families together")
    samples: PositiveInt = Field(default=12, ge=2, description="group size: answers to each question")
    advantage: Annotated[str, OneOf(lambda: ADVANTAGES)] = Field(
        default="grpo",
        description=(
            "grpo: (reward − mean of the group) / its standard deviation; dr_grpo: without the division; rloo: reward −"
            " mean of the others"
        ),
    )
    loss: Annotated[str, OneOf(lambda: LOSSES)] = Field(
        default="dapo", description="what the loss is normalised by: each answer, the batch's tokens, or a constant"
    )
    importance: Annotated[str, OneOf(lambda: IMPORTANCE)] = Field(
        default="token",
        description=(
            "sequence is GSPO's: one ratio an answer; its paper has loss=grpo, kl=0 and clips of 0.0003 and 0.0004"
        ),
    )
    clip_low: NonNegativeFloat = Field(
        default=0.2, description="lower PPO clip: limits the ratio when the advantage is negative"
    )
    clip_high: NonNegativeFloat = Field(
        default=0.2, description="upper PPO clip; 0.28 is DAPO's clip-higher. Clips bind from a batch's second epoch on"
    )
    kl: NonNegativeFloat = Field(
        default=0.001,
        description="weight of the KL divergence (k3) from the frozen starting model; 0 keeps no reference",
    )
    epochs_per_batch: PositiveInt = Field(default=1, description="updates on the same answers")
    mask_truncated: bool = Field(
        default=False, description="leaves answers that were cut at the token limit out of the loss"
    )
    dynamic_sampling: int = Field(
        default=0, ge=0, description="rounds of new questions that replace groups without a signal (DAPO)"
    )
    curriculum: Literal["uniform", "pass_rate"] = Field(
        default="uniform",
        description="uniform: each question once an epoch; pass_rate: drawn by the weight p(1 − p) of its pass rate p",
    )
    pass_rate_floor: NonNegativeFloat = Field(
        default=0.05, description="added to p(1 − p), so that no question is lost for good"
    )
    pass_rate_memory: float = Field(
        default=0.9,
        gt=0.0,
        le=1.0,
        description="weight that an answer keeps in the pass rate from one step to the next",
    )
    mix: dict[str, PositiveFloat] = Field(
        default={}, description="each family's share of a step's questions; empty: as in train"
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced: a right label's reward is scaled by N / (K · N_label); advantage=grpo would undo it",
    )
    tuning_every: PositiveInt = Field(
        default=20, description="steps between evaluations on tuning, which choose the weights that are kept"
    )
    patience: PositiveInt | None = Field(
        default=None, description="stops after this many evaluations on tuning without a better mean of as many"
    )
    on_alarm: Literal["warn", "stop"] = Field(default="warn", description="effect of an alarm; docs/rlvr.md lists them")
    checkpoint_every: PositiveInt = Field(default=10, description="steps between checkpoints")

    @model_validator(mode="after")
    def families_are_known(self) -> Rlvr:
        for family in self.mix:
            if family not in tasks.TASKS:
                nearest = get_close_matches(family, tasks.TASKS, n=1)
                hint = f"did you mean '{nearest[0]}'?" if nearest else f"families are {', '.join(tasks.TASKS)}"
                raise ValueError(f"mix names the family '{family}', which does not exist; {hint}")
        return self

    @model_validator(mode="after")
    def weights_are_felt(self) -> Rlvr:
        if self.class_weights != "none" and self.advantage == "grpo":
            raise ValueError(
                "class_weights with advantage=grpo would be undone, as it divides a group by its spread; use dr_grpo or"
                " rloo"
            )
        return self
