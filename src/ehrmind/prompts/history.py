"""A coded history as text under a token budget, for many requests at once.

    63 years old, female
    today: hemoglobin 9.1, 8.7 g/dL (4 days); Visit/IP, still open
    12 days ago: type 2 diabetes; metformin 500 MG

Days are relative to the prediction time, so that shifted dates say nothing. The newest days are written until the budget is full: within a
day in the data's order, whole findings only; what did not fit is counted. Repeated results of a test are folded into one finding at the day
of the newest, oldest value first. Everything is columns of one frame: no object per event. `VERSION` and the settings make the digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ehrmind.prompts.events import kinds_of_codes

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from ehrmind.config import History

VERSION = 1
CHARACTERS_PER_TOKEN = 3.0  # of coded histories in common tokenizers: 3.2 to 4; the lower figure keeps to the budget


@dataclass(frozen=True, slots=True)
class Rendered:
    """`texts` by request; `shown` and `cut` count findings (a folded test is one) that did and did not fit."""

    texts: Sequence[str]
    shown: Sequence[int]
    cut: Sequence[int]


def history_digest(settings: History) -> str:
    """Names one way of serialising: another version or setting is another digest."""
    return hashlib.sha256(json.dumps({"version": VERSION, **settings.model_dump(mode="json")}, sort_keys=True).encode()).hexdigest()[:16]


def render(events: pl.DataFrame, as_of: np.ndarray, born: np.ndarray, names: Mapping[str, str], settings: History) -> Rendered:
    """`events` as `Timeline.visible` gives them; `as_of` and `born` (the least int64: unknown) in microseconds since 1970, by request."""
    import numpy as np
    import polars as pl

    requests = pl.DataFrame({"request": np.arange(len(as_of), dtype=np.uint32), "as_of": as_of, "born": born})
    day = 86_400_000_000
    codes = kinds_of_codes(events.select("code", "table").unique(maintain_order=True).rows(), names)
    known = (
        events.lazy()
        .join(codes.lazy(), on=["code", "table"], how="left", maintain_order="left", nulls_equal=True)
        .join(requests.lazy(), on="request", how="left", maintain_order="left")
    )
    heads = (
        known.filter(pl.col("kind") == "demographics", pl.col("time").is_null())
        .group_by("request", maintain_order=True)
        .agg(pl.col("name").unique(maintain_order=True).str.join(", ").alias("static"))
    )
    dated = known.filter(pl.col("time").is_not_null(), pl.col("kind").is_in(list(settings.kinds))).with_columns(
        (pl.col("as_of") // day - pl.col("time").cast(pl.Int64) // day).alias("days"),
    )
    findings = _findings(dated, settings).collect()
    body = _fitted(findings, settings).lazy()
    age = (pl.col("as_of") - pl.col("born")) // (day * 365.2425)
    said = pl.when(pl.col("born") > np.iinfo(np.int64).min).then(age.cast(pl.Int64).cast(pl.String) + " years old")
    frame = (
        requests.lazy()
        .join(heads, on="request", how="left")
        .join(body, on="request", how="left")
        .with_columns(pl.concat_str([said, pl.col("static")], separator=", ", ignore_nulls=True).alias("head"))
        .with_columns(pl.concat_str([pl.col("head").replace("", None), pl.col("body")], separator="\n", ignore_nulls=True).alias("text"))
        .sort("request")
        .collect()
    )
    return Rendered(frame["text"].to_list(), frame["shown"].fill_null(0).to_list(), frame["cut"].fill_null(0).to_list())


def _findings(dated: pl.LazyFrame, settings: History) -> pl.LazyFrame:
    """One row a finding: request, place (newest event's row), days, text."""
    import polars as pl

    number = pl.col("numeric_value").round_sig_figs(4).cast(pl.String).str.strip_suffix(".0")
    rows = dated.with_row_index("place").with_columns(
        pl.coalesce(number, pl.col("text_value")).alias("value"),
        pl.when(pl.col("kind") == "visits", pl.col("end").is_null()).then(pl.lit(", no end known")).alias("open"),
    )
    same_day = [] if settings.trends else ["days"]
    measured = (
        rows.filter(pl.col("numeric_value").is_not_null())
        .group_by("request", "code", "unit", *same_day, maintain_order=True)
        .agg(
            pl.col("place").last(),
            pl.col("name").last(),
            (pl.col("days").first() - pl.col("days").last()).alias("span"),
            pl.col("value").tail(settings.trend_values).str.join(", ").alias("value"),
            pl.len().alias("times"),
            *([pl.col("days").last()] if settings.trends else []),
        )
        .with_columns(
            pl.when(pl.col("times") > settings.trend_values)
            .then(pl.format(" (last of {} in {} days)", "times", "span"))
            .when(pl.col("span") > 0)
            .then(pl.format(" ({} days)", "span"))
            .alias("note")
        )
        .select("request", "place", "days", pl.concat_str(["name", pl.lit(" "), "value"]).alias("text"), "unit", "note")
    )
    others = (
        rows.filter(pl.col("numeric_value").is_null())
        .group_by("request", "code", "days", "value", maintain_order=True)
        .agg(pl.col("place").last(), pl.col("name").last(), pl.col("unit").last(), pl.col("open").last().alias("note"))
        .select(
            "request", "place", "days", pl.concat_str(["name", "value"], separator=" ", ignore_nulls=True).alias("text"), "unit", "note"
        )
    )
    unit = pl.when(pl.col("unit").is_not_null()).then(pl.lit(" ") + pl.col("unit"))
    return pl.concat([measured, others]).select(
        "request", "place", "days", pl.concat_str(["text", unit, "note"], ignore_nulls=True).alias("text")
    )


def _fitted(findings: pl.DataFrame, settings: History) -> pl.DataFrame:
    """request, body, shown, cut: days as lines, the newest first for the budget, in the order asked for on the page."""
    import polars as pl

    budget = int(settings.max_tokens * CHARACTERS_PER_TOKEN)
    newest = findings.sort(["request", "days", "place"])
    first_of_day = pl.col("days") != pl.col("days").shift(1).over("request")
    size = pl.col("text").str.len_bytes() + 2 + pl.when(first_of_day.fill_null(True)).then(14).otherwise(0)
    fits = newest.with_columns((size.cum_sum().over("request") <= budget).alias("fits"))
    counts = fits.group_by("request").agg(pl.col("fits").sum().alias("shown"), (~pl.col("fits")).sum().alias("cut"))
    when = (
        pl.when(pl.col("days") == 0)
        .then(pl.lit("today: "))
        .when(pl.col("days") == 1)
        .then(pl.lit("1 day ago: "))
        .otherwise(pl.format("{} days ago: ", "days"))
    )
    lines = (
        fits.filter("fits")
        .group_by("request", "days", maintain_order=True)
        .agg(pl.col("text").str.join("; "))
        .sort(["request", "days"], descending=[False, not settings.newest_first])
        .with_columns((when + pl.col("text")).alias("text"))
        .group_by("request", maintain_order=True)
        .agg(pl.col("text").str.join("\n").alias("body"))
    )
    return counts.join(lines, on="request", how="left")
