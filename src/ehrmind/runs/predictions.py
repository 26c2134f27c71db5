"""The folder of `ehrmind predict`: the only code that knows its paths.

    asked.json  provenance.json  parts/000000.parquet  endpoint.jsonl  manifest.json
    predictions.parquet or predictions.jsonl   predictions.html   meds/<task>.parquet

It holds what a model said of records: mode 0700, every file 0600, looked at whenever it is opened. One process at a time writes there
(`lock`), and every file has its digest in the manifest (`manifest`). A part is whole or absent; what is there is not asked again, so that
every case is answered once, wherever the work was stopped. `asked.json` is what the answers depend on, and a folder belongs to it.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ehrmind.config import differing_keys
from ehrmind.files import clear_leftovers, file_name, json_bytes, parquet_bytes, write_json
from ehrmind.runs.lock import LOCK, WRITER, sign
from ehrmind.runs.manifest import NAME, Manifest
from ehrmind.runs.protected import keep_private
from ehrmind.types import InputError
from ehrmind.world import on_first

if TYPE_CHECKING:
    import polars as pl

Row = dict[str, Any]
Format = Literal["parquet", "jsonl"]
PARTS = "parts/"
_PART = re.compile(r"[0-9]{6,}\.parquet")
_IDLE = re.compile(
    rf"asked\.json|manifest\.json|{re.escape(LOCK)}|{re.escape(WRITER)}|\.(?:asked|manifest)\.json\.[0-9a-f]{{8}}\.partial"
)
TELLING = 20  # cases; that none of fewer was answered may be chance, and is a warning alone
FORMATS: tuple[Format, ...] = ("parquet", "jsonl")


@dataclass(frozen=True)
class Predictions:
    """Paths and records of one prediction."""

    path: Path

    @cached_property
    def manifest(self) -> Manifest:
        """Digests of all that is stored, every file its owner's alone. The first worker's alone."""
        return Manifest(self.path, private=("",))

    @property
    def answers(self) -> Path:
        """What an endpoint answered, so that it is asked nothing twice."""
        return self.path / "endpoint.jsonl"

    @property
    def page(self) -> Path:
        return self.path / "predictions.html"

    def meds(self, task: str) -> Path:
        return self.path / "meds" / f"{file_name(task)}.parquet"

    @on_first
    def written_parts(self) -> list[int]:
        """Their numbers."""
        return [int(Path(name).stem) for name in self.manifest.names(PARTS)]

    @on_first
    def write_part(self, number: int, rows: Sequence[Row]) -> None:
        self.manifest.put(f"{PARTS}{number:06d}.parquet", parquet_bytes(frame_of(rows)))

    def parts(self) -> pl.DataFrame:
        """All parts that are written, in order. Raises InputError where one is not what was stored."""
        import polars as pl

        return pl.concat(
            [pl.read_parquet(io.BytesIO(self.manifest.read_bytes(name))) for name in self.manifest.names(PARTS)]
        )

    def final(self) -> Path | None:
        """The whole, where it is finished."""
        name = self._final_name()
        return None if name is None else self.path / name

    @on_first
    def _final_name(self) -> str | None:
        listed = self.manifest.names() if self.manifest.file.is_file() else None  # None: an earlier version made it
        there = (f"predictions.{form}" for form in FORMATS)
        return next(
            (name for name in there if (self.path / name).is_file() and (listed is None or name in listed)), None
        )

    def write_final(self, frame: pl.DataFrame, form: Format) -> Path:
        name = f"predictions.{form}"
        self.manifest.put(name, parquet_bytes(frame) if form == "parquet" else frame.write_ndjson().encode())
        return self.path / name

    def write_page(self, html: str) -> Path:
        self.manifest.put(self.page.name, html.encode())
        return self.page

    @on_first
    def tidy(self) -> None:
        """Once the whole is on the disk: away with the parts, and with nothing that is not ours. Says what is left of them."""
        self.manifest.remove(*self.manifest.names(PARTS))
        with suppress(OSError):  # somebody else's file in it stays
            (self.path / PARTS).rmdir()

    def write_meds(self, task: str, frame: pl.DataFrame) -> None:
        self.manifest.put(self.meds(task).relative_to(self.path).as_posix(), parquet_bytes(frame))

    def lines(self) -> list[str]:
        """What became of the cases, for a person: counts, no text of a record."""
        counts = self.about("provenance")["counts"]
        why = ", ".join(f"{reason} {count:,}" for reason, count in counts["reasons"].items())
        said = [
            f"answered {counts['answered']:,} of {counts['cases']:,} cases",
            *([f"without an answer: {why}"] if why else []),
        ]
        if counts["abstained"]:
            said.append(f"abstained from {counts['abstained']:,}")
        return [*said, f"wrote {self.final()}"]

    def warning(self) -> str | None:
        """Advises what to do if not one case was answered, which no model of this kind of question
        does; else None."""
        counts = self.about("provenance")["counts"]
        if counts["answered"] or counts["abstained"]:
            return None
        why = max(counts["reasons"], key=counts["reasons"].get, default="no answer")
        return (
            f"none of {counts['cases']:,} cases was answered (mostly: {why}), so this model cannot be used for them as it was asked; "
            f"`text` in {self.final()} is what it wrote: see whether it was trained on such cases, and whether "
            "decoding.max_new_tokens and the model's context are enough"
        )

    def write_about(self, name: Literal["asked", "provenance"], about: Mapping[str, Any]) -> None:
        self.manifest.put(f"{name}.json", json_bytes(about))

    def about(self, name: Literal["asked", "provenance"]) -> dict[str, Any]:
        """Raises InputError where it is not what was stored."""
        found: dict[str, Any] = json.loads(self.manifest.read_bytes(f"{name}.json"))
        return found

    def asked_before(self) -> dict[str, Any] | None:
        """What the folder was asked when it began, if it has."""
        return self.about("asked") if self.manifest.file.is_file() else None


def open_predictions(path: Path, asked: Mapping[str, Any], *, resume: bool) -> Predictions:
    """Make a folder, or open one to go on with it. Refuses a used folder, and going on with another model, other cases or another way of
    asking, by the names of what differs."""
    _open(path, asked, resume)
    return Predictions(path)


@on_first
def _open(path: Path, asked: Mapping[str, Any], resume: bool) -> None:
    folder = Predictions(path)
    plain: dict[str, Any] = json.loads(json.dumps(asked))
    is_begun = refuse_used(path, resume=resume)
    if is_begun and (differing := differing_keys(folder.about("asked"), plain)):
        raise InputError(f"{path} was asked otherwise, so it cannot be resumed; these differ: {', '.join(differing)}.")
    path.mkdir(parents=True, exist_ok=True)
    if is_begun:
        keep_private(path)
    path.chmod(0o700)
    sign(path, path)
    for part in ("", PARTS, "meds"):
        clear_leftovers(path / part, alone=True)
    if is_begun:
        _recover(folder)
        return
    for part in (PARTS, "meds"):
        (path / part).mkdir(mode=0o700, exist_ok=True)
    write_json(path / "asked.json", plain, private=True)
    folder.manifest.create("asked.json")


def _recover(folder: Predictions) -> None:
    """What is damaged or gone is named, and asked again where a part of it is; what was whole once is left to a person."""
    folder.manifest.settle()
    for fault in list(folder.manifest.faults()):
        if fault.what == "damaged" and not fault.name.startswith(PARTS):
            raise InputError(
                f"{folder.path / fault.name} is damaged; restore it from a copy, or remove it, and --resume makes it again."
            )
        sys.stderr.write(f"{folder.path / fault.name} is {fault.what}; it is made again\n")
        folder.manifest.remove(fault.name)
    parts = (f"{PARTS}{path.name}" for path in (folder.path / PARTS).glob("*.parquet") if _PART.fullmatch(path.name))
    folder.manifest.remove(
        *(name for name in parts if not folder.manifest.holds(name))
    )  # a kill came before or after it was listed


def holds_work(path: Path) -> bool:
    """Tells whether anything was answered in the folder, or something in it is not ours."""
    return any(
        file.is_symlink() or not file.is_dir()
        for file in path.rglob("*")
        if not (file.parent == path and _IDLE.fullmatch(file.name))
    )


def is_bare(path: Path) -> bool:
    """Tells whether the folder holds only what a kill left before its manifest, or a lock. What is not listed counts as never written."""
    made = {path / "asked.json", path / PARTS, path / "meds"}
    found = set(path.rglob("*"))
    return not (path / NAME).is_file() and all(
        entry in made or (entry.parent == path and _IDLE.fullmatch(entry.name)) for entry in found
    )


def refuse_used(path: Path, *, resume: bool) -> bool:
    """Whether predictions have begun there. Raises InputError where they have and are not to go on, or where something else is."""
    if not path.exists() or is_bare(path):
        return False
    if not (path / "asked.json").is_file():
        raise InputError(f"{path} is not empty and holds no predictions; choose another --out.")
    if not resume:
        raise InputError(f"{path} already holds predictions; go on with them by --resume, or choose another --out.")
    return True


def read_predictions(path: Path) -> pl.DataFrame:
    """A finished folder's rows, whatever their format. Raises InputError."""
    import polars as pl

    file = Predictions(path).final()
    if Predictions(path).manifest.file.is_file() and file is not None:
        Predictions(path).manifest.prove(file.name)
    if file is None:
        raise InputError(f"{path} holds no finished predictions; go on with `ehrmind predict … --out {path} --resume`.")
    return pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_ndjson(file, schema=schema())


def frame_of(rows: Sequence[Row]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(rows, schema=schema(), orient="row")


def schema() -> dict[str, Any]:
    """A row a case. docs/predict.md says what each column is."""
    import polars as pl

    said = pl.Struct({"start": pl.Int64, "end": pl.Int64, "text": pl.String, "stands": pl.Boolean})
    return {
        **dict.fromkeys(("id", "family", "task", "stratum", "group"), pl.String),
        "subject_id": pl.Int64,
        "prediction_time": pl.Datetime("us"),
        "trial": pl.String,
        "answer": pl.String,
        "value": pl.Float64,
        "unit": pl.String,
        "probability": pl.Float64,
        "probabilities": pl.List(pl.Float64),
        "labels": pl.List(pl.String),
        "agreement": pl.Float64,
        "votes": pl.List(pl.Struct({"answer": pl.String, "samples": pl.Int64})),
        "rank": pl.Int64,
        "score": pl.Float64,
        "abstained": pl.Boolean,
        "reason": pl.String,
        "thinking": pl.String,
        "grounding": pl.List(said),
        "text": pl.String,
        "tokens": pl.Int64,
        "finish_reason": pl.String,
    }
