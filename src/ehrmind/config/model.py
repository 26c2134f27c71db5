"""The recipe's `model`: a causal language model by name, or a tiny one built here."""

from __future__ import annotations

import datetime
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from ehrmind.config.section import Section


class TinyModel(Section):
    """A small model built here: random weights, and a BPE tokenizer trained on synthetic text."""

    family: Literal["llama", "qwen3", "gemma3"] = Field(default="llama", description="the architecture")
    hidden: PositiveInt = Field(default=128, description="width of a layer")
    layers: PositiveInt = Field(default=4, description="how many")
    heads: PositiveInt = Field(default=4, description="attention heads a layer")
    vocabulary: PositiveInt = Field(default=1024, description="tokens of the tokenizer")
    context: PositiveInt = Field(default=4096, description="the longest sequence")
    sliding_window: PositiveInt | None = Field(
        default=None, description="how far layers with a sliding window look back, in families that have them"
    )


class Lora(Section):
    """An adapter that is trained instead of all weights."""

    rank: PositiveInt = Field(default=16, description="rank of the adapter's matrices")
    alpha: PositiveInt = Field(default=32, description="the adapter is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="dropout on the adapter's input, in training")
    targets: list[str] | Literal["all-linear"] = Field(
        default="all-linear", description="names of the modules that get an adapter"
    )


class Model(Section):
    """A causal language model: `name` takes what `transformers` loads from a directory or the hub's
    cache, `tiny` builds one.
    """

    name: str | None = Field(default=None, description="a directory as `save_pretrained` writes it, or a hub id")
    tiny: TinyModel | None = Field(default=None, description="instead of name: a small model built here")
    revision: str | None = Field(default=None, description="a hub model's commit, tag or branch")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="type of the weights; bfloat16 weights that are trained have fp32 masters"
    )
    autocast: bool = Field(default=False, description="computes in bf16, in sampling and in training")
    lora: Lora | None = Field(default=None, description="train an adapter instead of all weights")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto takes CUDA where there is one")
    template: dict[str, Any] = Field(
        default={}, description="extra arguments of the chat template, such as enable_thinking"
    )
    date: datetime.date | None = Field(
        default=None,
        description="the date that a chat template writes as today's; by default the day on which the run began",
    )

    @model_validator(mode="after")
    def one_model(self) -> Model:
        if (self.name is None) == (self.tiny is None):
            raise ValueError("give exactly one of name and tiny")
        return self
