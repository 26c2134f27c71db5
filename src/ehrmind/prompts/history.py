"""Writes coded histories as text under a token budget, for many requests at once.

    63 years old, female
    today: hemoglobin 9.1, 8.7 g/dL (4 days); Visit/IP, still open
    12 days ago: type 2 diabetes; metformin 500 MG

Days are relative to the prediction time, so shifted dates give nothing away. The newest days are
written until the budget is full. Within a day, findings keep the data's order and are never cut in
two; those that do not fit are counted. Repeated results of a test become one finding on the day of
the newest, oldest value first. Events and findings are columns, never objects. `VERSION` and the
settings make the digest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ehrmind.ages import ages
from ehrmind.types import InputError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from ehrmind.config import History
    from ehrmind.data.timeline import Visible

VERSION = 3
DAY = 86_400_000_000  # microseconds
STILL_OPEN = ", no end known"
# Coded histories take 3.2 to 4 in common tokenizers; the lower figure keeps within the budget.
CHARACTERS_PER_TOKEN = 3.0


@dataclass(frozen=True, slots=True)
class Rendered:
    """Rendered histories, one entry per request.

    `shown` and `cut` count findings (a folded test is one) that did and did not fit. `unflagged`
    counts shown findings whose test has limits, but none in the unit of the result.
    """

    texts: Sequence[str]
    shown: Sequence[int]
    cut: Sequence[int]
    unflagged: Sequence[int]


def history_digest(settings: History) -> str:
    """Names one way of serialising. Another version or setting gives another digest."""
    return hashlib.sha256(
        json.dumps({"version": VERSION, **settings.model_dump(mode="json")}, sort_keys=True).encode()
    ).hexdigest()[:16]


def render(found: Visible, about: pl.DataFrame, as_of: np.ndarray, born: np.ndarray, settings: History) -> Rendered:
    """Renders histories.

    `about` describes every row of the timeline's `whats`: kind, name, unit, low, high, unread.
    `as_of` and `born` (`NO_BIRTH`: unknown) are microseconds since 1970, one per request.
    """
    import numpy as np
    import polars as pl

    static = found.events["time"].is_null()
    heads = _heads(found.events.filter(static), about, as_of, born)
    dated = found.events.filter(about["kind"].is_in(list(settings.kinds)).gather(found.events["what"]) & ~static)
    request = dated["request"].to_numpy()
    days = (as_of // DAY)[request] - dated["time"].cast(int).to_numpy() // DAY
    # numbers every day of every request, the oldest first
    run = np.cumsum(_changes(request) | _changes(days)) - 1
    findings = pl.concat(
        [_tests(dated, request if settings.trends else run, days, about, settings), _others(dated, run, about)]
    )
    findings = findings[_newest_first(findings["last"].to_numpy(), request, run)]
    last = findings["last"].to_numpy()
    pieces, sizes = _pieces(findings, about, dated["what"].to_numpy()[last], days[last], _changes(run[last]))
    whose, spent = request[last], np.cumsum(sizes)
    begun = np.searchsorted(whose, np.arange(len(as_of)))
    fits = spent - np.r_[0, spent][begun][whose] <= int(settings.max_tokens * CHARACTERS_PER_TOKEN)
    kept = np.flatnonzero(fits)
    if not settings.newest_first:
        kept = kept[np.argsort(last[kept])]
    bodies = _joined(pieces.gather(kept), whose[kept], len(as_of))
    texts = [head + body if head else body[1:] for head, body in zip(heads, bodies, strict=True)]
    shown = np.bincount(whose[kept], minlength=len(as_of))
    unread = (
        about["unread"].to_numpy()[dated["what"].to_numpy()[last[kept]]]
        & dated["numeric_value"].is_not_null().to_numpy()[last[kept]]
    )
    unflagged = np.bincount(whose[kept][unread & settings.flags], minlength=len(as_of))
    return Rendered(
        texts, shown.tolist(), (np.bincount(whose, minlength=len(as_of)) - shown).tolist(), unflagged.tolist()
    )


def _heads(static: pl.DataFrame, about: pl.DataFrame, as_of: np.ndarray, born: np.ndarray) -> list[str]:
    """Writes the head of each request: the age, then the static facts; "" if nothing is known."""
    said = [[] if math.isnan(years) else [f"{math.floor(years)} years old"] for years in ages(born, as_of).tolist()]
    names = about["name"].to_list()
    for request, what, text in static.select("request", "what", "text_value").iter_rows():
        fact = names[what] if text is None else f"{names[what]} {text}"
        if fact not in said[request]:
            said[request].append(fact)
    return [", ".join(parts) for parts in said]


def _tests(
    dated: pl.DataFrame, where: np.ndarray, days: np.ndarray, about: pl.DataFrame, settings: History
) -> pl.DataFrame:
    """Folds events with a number into findings, one per test and value of `where`.

    Columns: last (row of its newest event), value (the newest `trend_values` values, oldest first),
    note (whether the newest is high or low, and the days they span).
    """
    import numpy as np
    import polars as pl

    most, newest = settings.trend_values, dated["numeric_value"]
    measured = np.flatnonzero(dated["numeric_value"].is_not_null().to_numpy())
    rows, starts, ends = _grouped(where[measured], dated["what"].to_numpy()[measured], measured)
    last, of = rows[ends - 1], ends - starts
    texts = dated["text_value"]
    values = pl.DataFrame({"newest": _number(newest.gather(last), texts.gather(last))})
    for back in range(2, most + 1):
        older = np.where(of >= back, rows[np.maximum(ends - back, 0)], last)
        text = _number(newest.gather(older), texts.gather(older)) + ", "
        values = values.with_columns(pl.when(pl.Series(of >= back)).then(text).alias(f"older{back}"))
    columns = {"last": last, "of": of, "span": days[rows[starts]] - days[last], "number": newest.gather(last)}
    what = dated["what"].gather(last)
    flag = (
        pl.when(pl.col("number") > pl.col("high"))
        .then(pl.lit(" high"))
        .when(pl.col("number") < pl.col("low"))
        .then(pl.lit(" low"))
    )
    over = (
        pl.when(pl.col("of") > most)
        .then(pl.format(" (last of {} in {} days)", "of", "span"))
        .when(pl.col("span") > 0)
        .then(pl.format(" ({} days)", "span"))
    )
    return pl.DataFrame(columns | {limit: about[limit].gather(what) for limit in ("low", "high")}).select(
        "last",
        values.select(pl.concat_str(reversed(values.columns), ignore_nulls=True).alias("value"))["value"],
        pl.concat_str([flag, over] if settings.flags else [over], ignore_nulls=True).alias("note"),
    )


def _number(values: pl.Series, texts: pl.Series) -> pl.Series:
    """Writes four significant digits, after the `>` or `<` that the event's text may have for a
    result outside the measurable range."""
    import polars as pl

    numbers = values.round_sig_figs(4).cast(pl.String).str.strip_suffix(".0")
    return numbers if texts.null_count() == len(texts) else texts.str.extract(r"^\s*([<>]=?)").fill_null("") + numbers


def _others(dated: pl.DataFrame, run: np.ndarray, about: pl.DataFrame) -> pl.DataFrame:
    """Folds events without a number into findings, one per day and text.

    Columns: last, value (the text, if any), note.
    """
    import numpy as np
    import polars as pl

    unmeasured = np.flatnonzero(dated["numeric_value"].is_null().to_numpy())
    what, texts = dated["what"].to_numpy()[unmeasured].astype(np.int64), dated["text_value"].gather(unmeasured)
    with_text = np.flatnonzero(texts.is_not_null().to_numpy())
    if len(with_text):  # one number per distinct `what` and text
        words = texts.gather(with_text).to_arrow().dictionary_encode()
        _, number = np.unique(what[with_text] * len(words.dictionary) + words.indices.to_numpy(), return_inverse=True)
        what[with_text] = len(about) + number
    rows, _, ends = _grouped(run[unmeasured], what, unmeasured)
    last = rows[ends - 1]
    still_open = dated["end"].is_null().gather(last) & (about["kind"] == "visits").gather(dated["what"].gather(last))
    note = pl.when(still_open).then(pl.lit(STILL_OPEN)).alias("note")
    return pl.DataFrame({"last": last, "value": dated["text_value"].gather(last)}).with_columns(note)


def _grouped(where: np.ndarray, what: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (the rows, sorted so that equal `where` and `what` are together; where each group
    starts and ends)."""
    import numpy as np

    in_order, key = _sorted(where * (int(what.max(initial=0)) + 1) + what, rows)
    starts = np.flatnonzero(_changes(key))
    return in_order, starts, np.r_[starts[1:], len(key)] if len(key) else starts


def _newest_first(last: np.ndarray, request: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Returns the order of findings by request: newest day first, and within a day the data's
    order."""
    import numpy as np

    if not len(request):
        return last
    begun = np.flatnonzero(_changes(request))
    over = np.r_[begun[1:], len(request)] - 1
    mirrored = (run[begun] + run[over])[np.cumsum(_changes(request)) - 1] - run
    place_of = np.zeros(len(request), dtype=np.int64)
    place_of[last] = np.arange(len(last))
    return place_of[_sorted(mirrored[last], last)[0]]


def _sorted(key: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorts by key and row; returns (rows, keys).

    Both are packed into one number, because sorting numbers is several times faster than sorting
    pairs.
    """
    import polars as pl

    bits = int(rows.max(initial=0)).bit_length()
    if int(key.max(initial=0)).bit_length() + bits > 63:
        raise InputError("The histories are too long to be looked at together; lower prompts.history.max_events.")
    packed = pl.Series(key.astype(int) << bits | rows).sort(multithreaded=False).to_numpy()
    return packed & ((1 << bits) - 1), packed >> bits


def _changes(column: np.ndarray) -> np.ndarray:
    """True at the first value and where a value differs from the one before it."""
    import numpy as np

    return np.r_[True, column[1:] != column[:-1]] if len(column) else np.zeros(0, dtype=bool)


def _pieces(
    findings: pl.DataFrame, about: pl.DataFrame, what: np.ndarray, days: np.ndarray, opens_day: np.ndarray
) -> tuple[pl.Series, np.ndarray]:
    """Returns (each finding's text with its separator, the bytes it takes of the budget)."""
    import numpy as np
    import polars as pl

    ago = pl.select(pl.format("\n{} days ago: ", pl.int_range(2, max(2, int(days.max(initial=0)) + 1)))).to_series()
    joints = pl.concat([pl.Series(["; ", "\ntoday: ", "\n1 day ago: "]), ago])
    joint = np.where(opens_day, days + 1, 0)
    # with a space for names that a value follows
    spaced = pl.concat([about["name"], about["name"] + " "])
    name = what + len(about) * findings["value"].is_not_null().to_numpy()
    piece = findings.select(
        pl.concat_str(
            [
                joints.gather(joint),
                spaced.gather(name),
                pl.col("value"),
                (" " + about["unit"]).gather(what),
                pl.col("note"),
            ],
            ignore_nulls=True,
        )
    ).to_series()
    sizes = (
        piece.str.len_bytes().cast(int).to_numpy()
        - joints.str.len_bytes().cast(int).to_numpy()[joint]
        + 2
        + 14 * opens_day
    )
    return piece, sizes


def _joined(pieces: pl.Series, whose: np.ndarray, requests: int) -> list[str]:
    """Joins the pieces of every request into one text.

    They are cut from the column's bytes, where they lie in order.
    """
    import numpy as np
    import pyarrow as pa

    if not len(pieces):
        return [""] * requests
    column = pieces.to_arrow().cast(pa.large_string())
    _, offsets, content = column.buffers()
    places = np.frombuffer(offsets, dtype=np.int64)[column.offset :][np.searchsorted(whose, np.arange(requests + 1))]
    whole = memoryview(content)
    return [str(whole[start:end], "utf-8") for start, end in pairwise(places.tolist())]
