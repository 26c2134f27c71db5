"""The folder of `ehrmind predict`: the only code that knows its paths.

    asked.json  provenance.json  parts/000000.parquet  endpoint.jsonl  manifest.json
    predictions.parquet or predictions.jsonl   predictions.html   meds/<task>.parquet

It holds what a model said about records: mode 0700, every file 0600, checked whenever it is opened.
One process at a time writes there (`lock`), and every file has its digest in the manifest
(`manifest`). A part is whole or absent. Parts that exist are not asked again, so every case is
answered once, wherever the work was stopped. The answers depend on `asked.json`, and a folder
belongs to one such file."""

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
from ehrmind.runs.records import PredictionProvenance
from ehrmind.runs.records.prediction_row import PredictionRow
from ehrmind.types import InputError
from ehrmind.world import on_first

if TYPE_CHECKING:
    import polars as pl

Format = Literal["parquet", "jsonl"]
PARTS = "parts/"
_PART = re.compile(r"[0-9]{6,}\.parquet")
_IDLE = re.compile(
    rf"asked\.json|manifest\.json|{re.escape(LOCK)}|{re.escape(WRITER)}|\.(?:asked|manifest)\.json\.[0-9a-f]{{8}}\.partial"
)
TELLING = 20  # cases; if none of fewer was answered, that may be chance and is only a warning
FORMATS: tuple[Format, ...] = ("parquet", "jsonl")


@dataclass(frozen=True)
class Predictions:
    """Reads and writes the folder of one prediction."""

    path: Path

    @cached_property
    def manifest(self) -> Manifest:
        """The digests of all stored files, which only their owner can read. Only the first worker
        uses them."""
        return Manifest(self.path, private=("",))

    @property
    def answers(self) -> Path:
        """The file of an endpoint's answers, so that nothing is asked twice."""
        return self.path / "endpoint.jsonl"

    @property
    def page(self) -> Path:
        return self.path / "predictions.html"

    def meds(self, task: str) -> Path:
        return self.path / "meds" / f"{file_name(task)}.parquet"

    @on_first
    def written_parts(self) -> list[int]:
        """Lists the numbers of the written parts."""
        return [int(Path(name).stem) for name in self.manifest.names(PARTS)]

    @on_first
    def write_part(self, number: int, rows: Sequence[PredictionRow]) -> None:
        self.manifest.put(f"{PARTS}{number:06d}.parquet", parquet_bytes(frame_of(rows)))

    def parts(self) -> pl.DataFrame:
        """Reads all written parts, in order. Raises InputError if one is not what was stored."""
        import polars as pl

        return pl.concat(
            [pl.read_parquet(io.BytesIO(self.manifest.read_bytes(name))) for name in self.manifest.names(PARTS)]
        )

    def final(self) -> Path | None:
        """The file of all predictions; None until it is finished."""
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
        """Removes the parts once the whole file is on the disk, and nothing that is not ours.
        Reports what is left of them."""
        self.manifest.remove(*self.manifest.names(PARTS))
        with suppress(OSError):  # a foreign file in it stays
            (self.path / PARTS).rmdir()

    def write_meds(self, task: str, frame: pl.DataFrame) -> None:
        self.manifest.put(self.meds(task).relative_to(self.path).as_posix(), parquet_bytes(frame))

    def lines(self) -> list[str]:
        """Says in sentences what became of the cases: counts, no record text."""
        counts = self.provenance().counts
        why = ", ".join(f"{reason} {count:,}" for reason, count in counts.reasons.items())
        said = [
            f"answered {counts.answered:,} of {counts.cases:,} cases",
            *([f"without an answer: {why}"] if why else []),
        ]
        if counts.abstained:
            said.append(f"abstained from {counts.abstained:,}")
        return [*said, f"wrote {self.final()}"]

    def warning(self) -> str | None:
        """Advises what to do if no case was answered, as happens with a model not made for such
        questions; else None."""
        counts = self.provenance().counts
        if counts.answered or counts.abstained:
            return None
        why = max(counts.reasons, key=lambda reason: counts.reasons[reason], default="no answer")
        return (
            f"none of {counts.cases:,} cases was answered (mostly: {why}), so this model cannot be used for them as "
            "it was asked; "
            f"`text` in {self.final()} is what it wrote: see whether it was trained on such cases, and whether "
            "decoding.max_new_tokens and the model's context are enough"
        )

    def write_provenance(self, provenance: PredictionProvenance) -> None:
        self.manifest.put("provenance.json", json_bytes(provenance.to_dict()))

    def provenance(self) -> PredictionProvenance:
        """Reads provenance.json of a finished prediction. Raises InputError if it is not what was
        stored."""
        tree = json.loads(self.manifest.read_bytes("provenance.json"))
        return PredictionProvenance.from_dict(tree, str(self.path / "provenance.json"))

    def asked(self) -> dict[str, Any]:
        """Reads asked.json, the JSON of `records.Asked`. Raises InputError if it is not what was
        stored."""
        found: dict[str, Any] = json.loads(self.manifest.read_bytes("asked.json"))
        return found

    def asked_before(self) -> dict[str, Any] | None:
        """Reads what the folder was asked when it began; None if it has not begun."""
        return self.asked() if self.manifest.file.is_file() else None


def open_predictions(path: Path, asked: Mapping[str, Any], *, resume: bool) -> Predictions:
    """Makes a folder, or opens one to resume it. Refuses a used folder without `resume`, and a
    resume with another model, other cases or other settings, naming what differs."""
    _open(path, asked, resume)
    return Predictions(path)


@on_first
def _open(path: Path, asked: Mapping[str, Any], resume: bool) -> None:
    folder = Predictions(path)
    plain: dict[str, Any] = json.loads(json.dumps(asked))
    is_begun = refuse_used(path, resume=resume)
    if is_begun and (differing := differing_keys(folder.asked(), plain)):
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
    """Reports damaged and missing files. A part is dropped and asked again; a damaged finished file
    is refused."""
    folder.manifest.settle()
    for fault in list(folder.manifest.faults()):
        if fault.what == "damaged" and not fault.name.startswith(PARTS):
            raise InputError(
                f"{folder.path / fault.name} is damaged; restore it from a copy, or remove it, and --resume makes it"
                " again."
            )
        sys.stderr.write(f"{folder.path / fault.name} is {fault.what}; it is made again\n")
        folder.manifest.remove(fault.name)
    parts = (f"{PARTS}{path.name}" for path in (folder.path / PARTS).glob("*.parquet") if _PART.fullmatch(path.name))
    # a kill came before it was listed or after it was unlisted
    folder.manifest.remove(*(name for name in parts if not folder.manifest.holds(name)))


def holds_work(path: Path) -> bool:
    """Tells whether the folder holds answers or foreign files."""
    return any(
        file.is_symlink() or not file.is_dir()
        for file in path.rglob("*")
        if not (file.parent == path and _IDLE.fullmatch(file.name))
    )


def is_bare(path: Path) -> bool:
    """Tells whether the folder holds only what a kill left before its manifest, or a lock. What is
    not listed counts as never written."""
    made = {path / "asked.json", path / PARTS, path / "meds"}
    found = set(path.rglob("*"))
    return not (path / NAME).is_file() and all(
        entry in made or (entry.parent == path and _IDLE.fullmatch(entry.name)) for entry in found
    )


def refuse_used(path: Path, *, resume: bool) -> bool:
    """Tells whether predictions have begun there. Raises InputError if they have and `resume` is
    False, or if something else is there."""
    if not path.exists() or is_bare(path):
        return False
    if not (path / "asked.json").is_file():
        raise InputError(f"{path} is not empty and holds no predictions; choose another --out.")
    if not resume:
        raise InputError(f"{path} already holds predictions; go on with them by --resume, or choose another --out.")
    return True


def read_predictions(path: Path) -> pl.DataFrame:
    """Reads a finished folder's rows in either format. Raises InputError."""
    import polars as pl

    file = Predictions(path).final()
    if Predictions(path).manifest.file.is_file() and file is not None:
        Predictions(path).manifest.prove(file.name)
    if file is None:
        raise InputError(f"{path} holds no finished predictions; go on with `ehrmind predict … --out {path} --resume`.")
    return pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_ndjson(file, schema=schema())


def frame_of(rows: Sequence[PredictionRow]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame([row.to_dict() for row in rows], schema=schema(), orient="row")


def schema() -> dict[str, Any]:
    """The columns; one row per case. docs/predict.md explains each."""
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
