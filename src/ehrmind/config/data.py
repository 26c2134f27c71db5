"""The recipe's `data`: where Cases come from, and what each split may be used for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from ehrmind.config.section import Section


class Synthetic(Section):
    """Made-up cases: item i is a pure function of (seed, i)."""

    n: PositiveInt
    seed: int = 0
    tasks: list[str] = Field(default=[], description="calculators to draw from, in turn; empty means all 55")
    difficulty: Literal["easy", "medium", "hard"] = Field(
        default="medium", description="of the notes: length, distractors, units, negations"
    )
    manners: list[Literal["telegraphic", "case_report", "admission_note", "result_table"]] = Field(
        default=[], description="of the notes; empty means all"
    )
    styles: list[Literal["shorthand", "jotted", "numbered", "prose", "formula_first"]] = Field(
        default=[], description="of the worked answers; empty means all"
    )


class DataSource(Section):
    """Where Cases come from: exactly one of the four."""

    cases: list[Path] = Field(default=[], description="parquet files written by `ehrmind data`")
    medcalc: list[str] = Field(default=[], description="MedCalc-Bench files, or a hub data set's id where going online is allowed")
    synthetic: Synthetic | None = None
    share_of_train: float | None = Field(default=None, gt=0.0, lt=1.0, description="tuning only: this share of train's notes")
    recompute: bool = Field(default=False, description="labels by the published formulas from each row's entities, not as stored")
    revision: str | None = Field(default=None, description="a hub data set's commit; resolved and recorded when absent")
    limit: PositiveInt | None = Field(default=None, description="take at most this many cases, chosen by seed")

    @model_validator(mode="after")
    def one_source(self) -> DataSource:
        given = [bool(self.cases), bool(self.medcalc), self.synthetic is not None, self.share_of_train is not None]
        if sum(given) != 1:
            raise ValueError("give exactly one of cases, medcalc, synthetic or share_of_train")
        if self.recompute and not (self.medcalc or self.cases):
            raise ValueError("recompute is for medcalc files and cases made of them; the labels of synthetic cases are computed already")
        return self


class Data(Section):
    """`train` may be learned from, `tuning` may select, `held_out` is scored once per arm, seed and decoding."""

    train: DataSource
    tuning: DataSource = DataSource(share_of_train=0.1)
    held_out: DataSource
    online: bool = Field(default=False, description="allow downloads from the hub")
    exclude_leaks: bool = Field(default=False, description="drop train notes that held_out also has (counted) instead of refusing")

    @model_validator(mode="after")
    def only_tuning_is_a_share(self) -> Data:
        if self.train.share_of_train is not None or self.held_out.share_of_train is not None:
            raise ValueError("share_of_train is for tuning only; give train and held_out files or synthetic cases")
        return self
