"""Settings of `ehrmind predict`: by default those of the run that trained the model, greedy and one
answer a case.
"""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from ehrmind.config.model import Model
from ehrmind.config.sampling import Decoding, Prompts
from ehrmind.config.section import Section


class Predict(Section):
    """Settings that decide every answer, with the model and the cases. They are recorded, and
    compared when a prediction resumes.
    """

    seed: int = Field(default=0, description="seed of sampling")
    model: Model = Field(default=Model(name="model"), description="how its directory is opened; the name is for people")
    prompts: Prompts = Prompts()
    decoding: Decoding = Decoding(temperature=0.0)
    samples: PositiveInt = Field(
        default=1, description="answers to every case, the commonest counts; 1 with temperature 0 is greedy"
    )
    abstain_below: float | None = Field(
        default=None, ge=0.0, le=1.0, description="abstains below this probability of the answer, or this agreement"
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
