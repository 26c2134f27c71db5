"""How `ehrmind predict` asks: by default as the run asked that trained the model, greedily and once."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from ehrmind.config.parts import Decoding, Model, Prompts
from ehrmind.config.section import Section


class Predict(Section):
    """Decides every answer, with the model and the cases; recorded beside them, and compared when a prediction goes on."""

    seed: int = Field(default=0, description="of sampling")
    model: Model = Field(default=Model(name="model"), description="how its directory is opened; the name is for people")
    prompts: Prompts = Prompts()
    decoding: Decoding = Decoding(temperature=0.0)
    samples: PositiveInt = Field(
        default=1, description="answers to every case, the commonest counts; 1 with temperature 0 is greedy"
    )
    abstain_below: float | None = Field(
        default=None, ge=0.0, le=1.0, description="of the answer's probability, or of agreement"
    )
    part: PositiveInt = Field(
        default=256, description="cases that are written at once; what is written is not asked again"
    )
    sampler_rows: PositiveInt = Field(default=512, description="answers decoded at once")
    sampler_tokens: PositiveInt = Field(default=262144, description="tokens whose keys and values are kept at once")
    shards: PositiveInt = Field(default=1, description="parts of every batch, sampled apart; workers divide them")
    threads: PositiveInt | None = Field(default=None, description="CPU threads of a worker")

    @model_validator(mode="after")
    def samples_differ(self) -> Predict:
        if self.samples > 1 and self.decoding.temperature == 0:
            raise ValueError("several samples need answers that differ; raise decoding.temperature above 0")
        return self
