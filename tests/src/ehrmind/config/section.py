"""What every part of a recipe keeps to: no unknown key, nothing changed after reading, no infinities."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
