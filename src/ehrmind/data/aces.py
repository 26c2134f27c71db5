"""Makes labels from an ACES task file (arXiv 2406.19653): subject, prediction time and label.

The `aces` library reads the file and finds the events of each predicate. `aces_windows` computes
the windows from the task's definition, and the library's windows are compared with them. Where the
library is known to deviate, the definition counts and a note says how often; any other difference
is an error. A label is yes if its predicate occurs at least once in the window, as in ACES's own
command. Left out on purpose: ACES's direct and ESGPT inputs, separate predicate files, window
statistics.
"""

from __future__ import annotations

import graphlib
import io
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ehrmind.data.aces_windows import Matches, Windows, refuse_endless
from ehrmind.data.meds import Meds, read_shard
from ehrmind.documents import read_text, refuse_unbounded
from ehrmind.temporary import temporary_folder
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

VISIBLE_LABEL = "the label's window begins at or before the prediction time, so a history may show its events"
EXCHANGED = (
    "prediction times that are taken from the task's definition: ACES exchanges the ends of a window that hangs on"
    " its end"
)
REDRAWN = (
    "triggers whose windows are taken from the definition: ACES lets an event that lies outside of a window end it at"
    " once"
)
UNMATCHED = "events that match the predicate '{}': its code, values and columns fit no event of the data set"


def read_aces_labels(data: Meds, path: Path) -> tuple[pl.DataFrame, dict[str, int]]:
    """Returns the labels by subject and time, in the form of `ehr_labels.read_labels`, and notes.

    Nothing is written, except a temporary shard without NaN and infinities if the data set has
    them. Raises InputError if es-aces is not installed, if the file defines no label or prediction
    time, if it does not fit the data set, if no subject meets it, or if ACES's windows differ from
    the definition.
    """
    import polars as pl

    try:
        with _quietly():
            _refuse_what_does_not_fit(path, data.shards[0])
            found = [_labels(path, shard) for shard in data.shards]
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "ehrmind":
            raise
        raise InputError(f"{path} is an ACES task file, which needs es-aces: pip install 'ehrmind[ehr]'.") from None
    matched = sum((shard.matched for shard in found), Counter[str]())
    without = sorted(name for name in found[0].matched if not matched[name])
    labels = pl.concat([shard.labels for shard in found]).sort("subject_id", "prediction_time", "value")
    if not labels.height:
        named = ", ".join(f"'{name}'" for name in without)
        of = f"no event matches {named}" if without else "each of its predicates occurs"
        raise InputError(
            f"{path}: nobody in {data.folder} meets this task; {of}; compare its codes and windows with the data set."
        )
    notes = {EXCHANGED: sum(shard.exchanged for shard in found), REDRAWN: sum(shard.redrawn for shard in found)}
    notes[VISIBLE_LABEL] = int(labels["seen"].sum())
    return labels.drop("seen"), {note: n for note, n in notes.items() if n} | {
        UNMATCHED.format(name): 0 for name in without
    }


@dataclass(frozen=True)
class Found:
    """Results of one shard.

    `labels` has a column `seen`: whether a history may show the label's window. `matched` counts
    events by plain predicate. `exchanged` and `redrawn` count labels that differ from ACES's in the
    known ways.
    """

    labels: pl.DataFrame
    matched: Counter[str]
    exchanged: int = 0
    redrawn: int = 0


def _labels(path: Path, shard: Path) -> Found:
    import polars as pl
    from aces.constraints import check_static_variables

    task = _task(path)
    counted = _predicates(path, shard, task)
    matched = Counter({name: int(counted[name].fill_null(0).sum()) for name in task.plain_predicates})
    static = [name for name, predicate in task.predicates.items() if predicate.static]
    events = check_static_variables(static, counted) if static else counted.drop_nulls(["subject_id", "timestamp"])
    try:
        ours, theirs = Windows(task, events).matches(), Windows(task, events, as_aces=True).matches()
    except _errors() as error:
        raise InputError(
            f"{path} could not be applied to {shard}: its windows end in {type(error).__name__}."
        ) from None
    exchanged = _compare(path, shard, theirs, _aces_results(path, shard, counted))
    redrawn = (ours.meets != theirs.meets) | (
        ours.meets & (((ours.times > 0) != (theirs.times > 0)) | (ours.at != theirs.at))
    )
    window, meets = task.windows[task.label_window], ours.meets
    seen = ours.label.start <= ours.at if window.start_inclusive else ours.label.start < ours.at
    labels = pl.DataFrame(
        {
            "subject_id": pl.Series(ours.subject[meets]).cast(pl.Int64),
            "prediction_time": pl.Series(ours.at[meets]).cast(pl.Int64).cast(pl.Datetime("us")),
            "value": pl.Series(ours.times[meets] > 0).cast(pl.Int64),
            "kind": pl.Series(["boolean"] * int(meets.sum()), dtype=pl.String),
            "seen": pl.Series(seen[meets], dtype=pl.Boolean),
        }
    )
    return Found(labels, matched, exchanged if labels.height else 0, int(redrawn.sum()))


def _predicates(path: Path, shard: Path, task: Any) -> pl.DataFrame:
    """Counts each predicate by subject and time, as ACES does, with non-finite numbers as null."""
    import polars as pl
    from aces.predicates import get_predicates_df

    read_shard(shard)  # raises the usual errors for a broken shard
    raw = pl.read_parquet(shard, hive_partitioning=False)
    numbers = [name for name, dtype in raw.schema.items() if dtype.is_float()]
    unreal = (
        numbers
        and not raw.select(
            pl.all_horizontal((pl.col(name).is_finite().fill_null(True)).all() for name in numbers)
        ).item()
    )
    try:
        with temporary_folder("ehrmind-aces") as folder:
            read = shard
            if unreal or raw.schema["time"] != pl.Datetime("us"):
                read = folder / "events.parquet"
                real = [pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in numbers]
                raw.with_columns(*real, pl.col("time").cast(pl.Datetime("us"))).write_parquet(read)
            found = get_predicates_df(task, SimpleNamespace(standard="meds", path=str(read)))
    except _errors() as error:  # the text may quote a record
        raise InputError(f"{path} could not be applied to {shard}: ACES ends with {type(error).__name__}.") from None
    return found.sort("subject_id", "timestamp", nulls_last=False)


def _aces_results(path: Path, shard: Path, counted: pl.DataFrame) -> pl.DataFrame:
    """Returns ACES's own results: trigger, prediction time, label count and label window."""
    import polars as pl
    from aces.query import query

    task = _task(path)  # read again, because a query changes the offsets of its windows
    window = task.windows[task.label_window]
    bounds = pl.col(f"{task.label_window}.{'end' if window.root_node == 'start' else 'start'}_summary").struct
    times = {"trigger": pl.col("trigger"), "index": pl.col("index_timestamp")}
    times |= {side: bounds.field(f"timestamp_at_{side}") for side in ("start", "end")}
    schema = {"subject_id": pl.Int64, **dict.fromkeys(times, pl.Int64), "count": pl.Int64}
    try:
        found = query(task, counted)
        if not found.height:
            return pl.DataFrame(schema=schema)
        return found.select(
            pl.col("subject_id").cast(pl.Int64),
            *(time.cast(pl.Datetime("us")).cast(pl.Int64).alias(name) for name, time in times.items()),
            pl.col("label").cast(pl.Int64).alias("count"),
        ).drop_nulls("trigger")
    except _errors() as error:
        raise InputError(f"{path} could not be applied to {shard}: ACES ends with {type(error).__name__}.") from None


def _compare(path: Path, shard: Path, ours: Matches, theirs: pl.DataFrame) -> int:
    """Counts prediction times that ACES took from the window's other end.

    Raises InputError if anything else differs.
    """
    import polars as pl

    mine = pl.DataFrame(
        {
            "subject_id": pl.Series(ours.subject).cast(pl.Int64),
            "trigger": ours.trigger,
            "index": ours.at,
            "other": ours.other,
            "count": pl.Series(ours.times).cast(pl.Int64),
            "start": ours.label.start,
            "end": ours.label.end,
        }
    ).filter(pl.Series(ours.meets, dtype=pl.Boolean))
    both = mine.join(theirs, on=["subject_id", "trigger"], how="full", suffix="_aces", coalesce=True)
    exchanged = (pl.col("index_aces") == pl.col("other")) & (pl.col("index_aces") != pl.col("index"))
    as_said = (pl.col("start_aces") == pl.col("start")) & (pl.col("end_aces") == pl.col("end"))
    turned = (pl.col("start_aces") == pl.col("end")) & (pl.col("end_aces") == pl.col("start"))
    same = (
        ((pl.col("index_aces") == pl.col("index")) | exchanged)
        & (as_said | turned)
        & (pl.col("count_aces") == pl.col("count"))
    )
    differing = both.height - int(both.select(same.fill_null(False).sum()).item())
    if differing:
        raise InputError(
            f"{path}: ACES reads {differing:,} of {both.height:,} matches in {shard} otherwise than the task's"
            " definition says (window, label or prediction time); write each window so that its end hangs on its"
            " start, and give each its own reference."
        )
    return int(both.select(exchanged.sum()).item())


def _task(path: Path) -> Any:
    """Reads the file with ACES. Its error messages quote the task file, never a record."""
    from aces.config import TaskExtractorConfig

    if not path.is_file():
        raise InputError(f"There is no ACES task file at {path}.")
    try:
        _refuse_circles(path)
        task = TaskExtractorConfig.load(path)
        for predicate in task.plain_predicates.values():
            predicate.code = _as_text(predicate.code)
    except InputError:
        raise
    except _errors() as error:
        raise InputError(f"{path} is no ACES task file: {_short_message(error)}") from None
    if task.label_window is None:
        raise InputError(f"{path} defines no label; give one of its windows `label: PREDICATE`.")
    if task.index_timestamp_window is None:
        raise InputError(
            f"{path} defines no prediction time; give one of its windows `index_timestamp: start` or `end`."
        )
    return task


def _as_text(code: Any) -> Any:
    """Converts codes that YAML reads as numbers, such as `50912`, to text as in MEDS."""
    if isinstance(code, Mapping):
        return {key: _as_text(value) for key, value in code.items()}
    if isinstance(code, list):
        return [_as_text(value) for value in code]
    return str(code) if isinstance(code, int) and not isinstance(code, bool) else code


def _refuse_circles(path: Path) -> None:
    """Raises ValueError for predicates that refer to each other; ACES would loop forever."""
    import ruamel.yaml

    text = read_text(path)
    refuse_unbounded(ruamel.yaml.YAML(typ="safe", pure=True).parse(text), str(path))
    tree = ruamel.yaml.YAML(typ="safe", pure=True).load(text)
    if not isinstance(tree, Mapping):
        raise ValueError("it should be a mapping with predicates, trigger and windows.")
    predicates = tree.get("predicates") or {}
    made_of = {name: re.findall(r"\w+", str(said["expr"])) for name, said in predicates.items() if "expr" in said}
    graphlib.TopologicalSorter(made_of).prepare()
    refuse_endless(tree.get("windows") or {})


def _refuse_what_does_not_fit(path: Path, shard: Path) -> None:
    """Tries each predicate on an empty table, so that an error of polars cannot quote a record."""
    import polars as pl

    nothing = pl.DataFrame(schema=pl.read_parquet_schema(shard))
    for name, predicate in _task(path).plain_predicates.items():
        named = predicate.code if not isinstance(predicate.code, Mapping) else next(iter(predicate.code.values()), None)
        if not named or (isinstance(named, list) and not all(named)):
            raise InputError(
                f"{path}, predicate '{name}': it has no code, so it matches no event; name one, or {{regex: \".\"}} for"
                " any."
            )
        try:
            nothing.with_columns(pl.col("code").cast(pl.String)).select(predicate.MEDS_eval_expr())
        except _errors() as error:
            raise InputError(f"{path}, predicate '{name}': {_short_message(error)}") from None


def _short_message(error: Exception) -> str:
    """Shortens an error's message to one line of at most 300 characters."""
    said = " ".join(" ".join(map(str, error.args)).split()).partition("valid columns:")[0]  # those of the data set
    return f"{type(error).__name__}: {said[:300]}"


def _errors() -> tuple[type[Exception], ...]:
    """Lists the exceptions that ACES and its dependencies raise for a wrong file."""
    import networkx as nx
    from bigtree.utils.exceptions import TreeError
    from polars.exceptions import PolarsError
    from ruamel.yaml.error import YAMLError

    of_python = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, AssertionError)
    return *of_python, YAMLError, nx.NetworkXException, TreeError, PolarsError


@contextmanager
def _quietly() -> Iterator[None]:
    """Silences ACES, which logs every step and prints a graph of what is wrong."""
    logger = logging.getLogger("aces")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
