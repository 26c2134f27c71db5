"""The recipe's `prompts` and `decoding`: how a question is asked, and how an answer is sampled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ehrmind import tasks
from ehrmind.config.choices import OneOf
from ehrmind.config.data import History
from ehrmind.config.section import Section


class Prompts(Section):
    """How every family's questions are asked; `history` is for coded records."""

    think: bool = Field(default=True, description="ask for a <think> block before the answer")
    tool: bool = Field(
        default=False, description="let the model call the calculators and arithmetic, in training and in evaluation"
    )
    hints: list[Annotated[str, OneOf(tasks.hint_causes)]] = Field(
        default=[], description="hints with every question, in training and in evaluation: an open book"
    )
    max_tokens: PositiveInt = Field(default=2048, description="tokens of a prompt, the chat template's included")
    history: History = History()
    too_long: Literal["refuse", "leave_out"] = Field(
        default="refuse",
        description="a prompt that is left out of training is counted; in evaluation it scores as wrong",
    )


class Decoding(Section):
    """Settings of sampling. Top-p (the paper: 0.95) and top-k are off by default: a filter biases
    the log-probabilities.
    """

    temperature: NonNegativeFloat = Field(default=0.6, description="0 is greedy")
    top_p: float = Field(
        default=1.0, gt=0.0, le=1.0, description="samples from the likeliest tokens with this total probability; 1: off"
    )
    top_k: int = Field(default=0, ge=0, description="samples from this many likeliest tokens; 0: off")
    max_new_tokens: PositiveInt = Field(default=512, description="the longest answer; a longer one is cut")
