"""Labels from an ACES task file (arXiv 2406.19653): the `aces` library says, shard by shard, who meets it, when, and with what label.

ACES counts how often the label's predicate occurs in its window; once or more is yes, as its own command has it. Left out on purpose: its
direct and ESGPT inputs, files of predicates apart from the task, and the statistics of windows.
"""

from __future__ import annotations

import graphlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ehrmind.sources.meds import Meds, read_shard
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

VISIBLE_LABEL = "the label's window begins at or before the prediction time, so a history may show its events"


def read_aces_labels(data: Meds, path: Path) -> tuple[pl.DataFrame, dict[str, int]]:
    """(the labels as `sources.meds.read_labels` gives them, by subject and time; how many have a `VISIBLE_LABEL`). Nothing is written.

    Raises InputError where es-aces is not installed, where the file is no task with a label and a prediction time, where it does not fit
    the data set, and where nobody meets it.
    """
    import polars as pl

    try:
        with _quietly():
            _refuse_what_does_not_fit(path, data.shards[0])
            found = [labels for shard in data.shards if (labels := _labels(path, shard)).height]
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "ehrmind":
            raise
        raise InputError(f"{path} is an ACES task file, which needs es-aces: pip install 'ehrmind[ehr]'.") from None
    if not found:
        raise InputError(f"{path}: nobody in {data.folder} meets this task; compare its codes and windows with the data set.")
    labels = pl.concat(found).sort("subject_id", "prediction_time", "value")
    seen = int(labels["seen"].sum())
    return labels.drop("seen"), {VISIBLE_LABEL: seen} if seen else {}


def _labels(path: Path, shard: Path) -> pl.DataFrame:
    """Of one shard; `seen` says whether the label's window begins at or before the prediction time."""
    import polars as pl
    from aces.predicates import get_predicates_df
    from aces.query import query

    read_shard(shard)  # what is wrong with a shard is said as for any other label
    task = _task(path)  # anew for every shard: a query adds to the offsets of the windows it is given
    try:
        found = query(task, get_predicates_df(task, SimpleNamespace(standard="meds", path=str(shard))))
    except _errors() as error:  # the text may quote a record
        raise InputError(f"{path} could not be applied to {shard}: ACES ends with {type(error).__name__}.") from None
    if not found.height:
        return pl.DataFrame()
    window = task.windows[task.label_window]
    begins = pl.col(f"{task.label_window}.{'end' if window.root_node == 'start' else 'start'}_summary").struct.field("timestamp_at_start")
    at = pl.col("index_timestamp")
    labels = found.select(
        pl.col("subject_id").cast(pl.Int64),
        at.cast(pl.Datetime("us")).alias("prediction_time"),
        (pl.col("label") > 0).cast(pl.Int64).alias("value"),
        pl.lit("boolean").alias("kind"),
        (begins <= at if window.start_inclusive else begins < at).fill_null(True).alias("seen"),
    )
    for column in ("prediction_time", "value"):
        if nulls := labels[column].null_count():
            raise InputError(f"{path}: ACES finds no {column.replace('_', ' ')} for {nulls} of {labels.height} matches in {shard}.")
    return labels


def _task(path: Path) -> Any:
    """ACES's own reading of the file. Raises InputError with ACES's words, which quote the file and no record."""
    from aces.config import TaskExtractorConfig

    if not path.is_file():
        raise InputError(f"There is no ACES task file at {path}.")
    try:
        _refuse_circles(path)
        task = TaskExtractorConfig.load(path)
    except _errors() as error:
        raise InputError(f"{path} is no ACES task file: {_said(error)}") from None
    if task.label_window is None:
        raise InputError(f"{path} defines no label; give one of its windows `label: PREDICATE`.")
    if task.index_timestamp_window is None:
        raise InputError(f"{path} defines no prediction time; give one of its windows `index_timestamp: start` or `end`.")
    return task


def _refuse_circles(path: Path) -> None:
    """Raises ValueError: ACES itself never comes back from predicates that are made of each other."""
    import ruamel.yaml

    tree = ruamel.yaml.YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    if not isinstance(tree, Mapping):
        raise ValueError("it should be a mapping with predicates, trigger and windows.")
    predicates = tree.get("predicates") or {}
    made_of = {name: re.findall(r"\w+", str(said["expr"])) for name, said in predicates.items() if "expr" in said}
    graphlib.TopologicalSorter(made_of).prepare()


def _refuse_what_does_not_fit(path: Path, shard: Path) -> None:
    """A predicate's columns and patterns, tried on no event at all, so that what polars says of them quotes no record."""
    import polars as pl

    nothing = pl.DataFrame(schema=pl.read_parquet_schema(shard))
    for name, predicate in _task(path).plain_predicates.items():
        try:
            nothing.with_columns(pl.col("code").cast(pl.String)).select(predicate.MEDS_eval_expr())
        except _errors() as error:
            raise InputError(f"{path}, predicate '{name}': {_said(error)}") from None


def _said(error: Exception) -> str:
    """The first words of an error on one line, at most three hundred characters."""
    said = " ".join(" ".join(map(str, error.args)).split())
    return f"{type(error).__name__}: {said[:300]}"


def _errors() -> tuple[type[Exception], ...]:
    """What ACES and what it stands on raise of a file that is wrong."""
    import networkx as nx
    from bigtree.utils.exceptions import TreeError
    from polars.exceptions import PolarsError
    from ruamel.yaml.error import YAMLError

    return ValueError, LookupError, TypeError, AttributeError, YAMLError, nx.NetworkXException, TreeError, PolarsError


@contextmanager
def _quietly() -> Iterator[None]:
    """ACES logs every step and prints the graph of what is wrong: none of it is for standard output or a log."""
    logger = logging.getLogger("aces")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
