"""Rules for every part of a recipe: no unknown key, no change after reading, no infinity, and
bounds on numbers.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

LARGEST = 1_000_000_000  # of any whole number but a seed: above it, a slip of the keyboard would run for years
SEEDS = 1 << 63  # what numpy and torch take
# Upper limits by key, the same in every section: a hundred times what the largest published
# experiments use.
LIMITS = {
    "n": 10_000_000,
    "questions": 10_000_000,
    "steps": 10_000_000,
    "samples": 10_000,
    "repeats": 10_000,
    "votes": 10_000,
    "shots": 1_000,
    "seeds": 1_000,
    "rounds": 1_000,
    "dynamic_sampling": 1_000,
    "epochs": 100_000,
    "epochs_per_batch": 100_000,
    "batch": 1_000_000,
    "questions_per_step": 1_000_000,
    "max_new_tokens": 1_000_000,
    "max_tokens": 10_000_000,
    "max_events": 10_000_000,
    "sampler_rows": 1_000_000,
    "hidden": 65_536,
    "layers": 1_000,
    "heads": 1_000,
    "vocabulary": 1_000_000,
    "context": 10_000_000,
    "rank": 65_536,
    "workers": 100_000,
    "shards": 100_000,
    "threads": 4_096,
    "concurrency": 10_000,
    "attempts": 10_000,
    "answer_kilobytes": 1_048_576,
}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def numbers_have_an_end(cls, value: Any, info: ValidationInfo) -> Any:
        """Checks bounds of whole numbers. Lists check their own."""
        if isinstance(value, int) and not isinstance(value, bool):
            name = str(info.field_name)
            most = SEEDS - 1 if name == "seed" else LIMITS.get(name, LARGEST)
            if abs(value) > most:
                raise ValueError(f"at most {most:,} is possible here")
        return value
