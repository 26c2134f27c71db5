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
DAY = 86_400_000_000  # microseconds
STILL_OPEN = ", no end known"
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


def render(
    events: pl.DataFrame, whats: pl.DataFrame, as_of: np.ndarray, born: np.ndarray, names: Mapping[str, str], settings: History
) -> Rendered:
    """`events` as `Timeline.visible` gives them, `whats` the timeline's; `as_of` and `born` (the least int64: unknown) in microseconds
    since 1970, by request."""
    import numpy as np
    import polars as pl

    about = kinds_of_codes(whats.select("code", "table").rows(), names)
    request, what = events["request"].to_numpy(), events["what"].to_numpy()
    static = events["time"].is_null().to_numpy()
    wanted = about["kind"].is_in(list(settings.kinds)).to_numpy()[what] & ~static
    demographics = (about["kind"] == "demographics").to_numpy()[what] & static
    heads = (
        pl.DataFrame({"request": request[demographics], "name": about["name"].gather(what[demographics])})
        .group_by("request")
        .agg(pl.col("name").unique(maintain_order=True).str.join(", ").alias("static"))
    )
    times = events["time"].cast(int).to_numpy()[wanted]
    rows = events.select("request", "what", "numeric_value", "text_value", pl.col("end").is_null().alias("open")).filter(pl.Series(wanted))
    rows = rows.with_columns(pl.Series("days", as_of[request[wanted]] // DAY - times.astype(np.int64) // DAY)).with_row_index("place")
    findings = _findings(rows, about.with_columns(whats["unit"]), settings)
    age = (pl.col("as_of") - pl.col("born")) // (DAY * 365.2425)
    said = pl.when(pl.col("born") > np.iinfo(np.int64).min).then(age.cast(pl.Int64).cast(pl.String) + " years old")
    head = pl.concat_str([said, pl.col("static")], separator=", ", ignore_nulls=True).replace("", None)
    frame = (
        pl.DataFrame({"request": np.arange(len(as_of), dtype=np.uint32), "as_of": as_of, "born": born})
        .join(heads, on="request", how="left")
        .join(_fitted(findings, settings), on="request", how="left")
        .with_columns(pl.concat_str([head, pl.col("body")], separator="\n", ignore_nulls=True).alias("text"))
        .sort("request")
    )
    return Rendered(frame["text"].to_list(), frame["shown"].fill_null(0).to_list(), frame["cut"].fill_null(0).to_list())


def _findings(rows: pl.DataFrame, about: pl.DataFrame, settings: History) -> pl.DataFrame:
    """One row a finding: request, place (newest event's row), days, text. Numbers are compared, and only what is left is written."""
    import polars as pl

    trend = ["request", "what"] if settings.trends else ["request", "what", "days"]
    latest = [pl.col("days").last()] if settings.trends else []
    number = pl.element().round_sig_figs(4).cast(pl.String).str.strip_suffix(".0")
    measured = (
        rows.lazy()
        .filter(pl.col("numeric_value").is_not_null())
        .group_by(trend)
        .agg(
            pl.col("place").last(),
            pl.len().alias("times"),
            (pl.col("days").first() - pl.col("days").last()).alias("span"),
            pl.col("numeric_value").tail(settings.trend_values).alias("values"),
            *latest,
        )
        .select(
            "request",
            "what",
            "place",
            "days",
            pl.col("values").list.eval(number).list.join(", ").alias("value"),
            pl.when(pl.col("times") > settings.trend_values)
            .then(pl.format(" (last of {} in {} days)", "times", "span"))
            .when(pl.col("span") > 0)
            .then(pl.format(" ({} days)", "span"))
            .alias("note"),
        )
    )
    others = (
        rows.lazy()
        .filter(pl.col("numeric_value").is_null())
        .group_by("request", "what", "days", "text_value")
        .agg(pl.col("place").last(), pl.col("open").last())
        .select(
            "request", "what", "place", "days", pl.col("text_value").alias("value"), pl.when("open").then(pl.lit(STILL_OPEN)).alias("note")
        )
    )
    found = pl.concat([measured, others]).collect()
    what = found["what"]
    is_visit = (about["kind"] == "visits").gather(what)
    return found.select(
        "request",
        "place",
        "days",
        pl.concat_str(
            [
                about["name"].gather(what),
                pl.lit(" ") + pl.col("value"),
                pl.lit(" ") + about["unit"].gather(what),
                pl.when((pl.col("note") != STILL_OPEN) | is_visit).then("note"),
            ],
            ignore_nulls=True,
        ).alias("text"),
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
