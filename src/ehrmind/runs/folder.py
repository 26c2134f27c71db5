"""The run folder: the only code that knows its paths.

    recipe.yaml  provenance.json  manifest.json  stages/<stage>.json  metrics.jsonl  alarms.jsonl
    pilot.json  results.json  contamination.json  report.html  seeds/<seed>/ (a run folder each)
    protected/   cases/  rollouts/<stage>-<step>.parquet  models/<arm>/
                 checkpoints/<stage>/step-<n>/  predictions/<arm>-<decoding>-<task>.parquet
                 teacher/<stage>.jsonl  endpoints/<stage>.jsonl

Files under `protected/` hold or may hold record text; only their owner can read them. Everything
else is figures and ids. A folder is never used twice: it is new, or it is resumed under the same
recipe. If there are several workers, only the first reads and writes the folder, and it sends the
others what it found.

`manifest.json` lists every stored file with its digest (`manifest`). A file that is not listed
counts as never written. Files that grow by lines have a digest in each line (`lines`). A file is
proven before it is read; `recovery` proves a whole folder before a run resumes."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ehrmind.documents import yaml_value
from ehrmind.files import file_name, json_bytes, make_folder, new_sibling, parquet_bytes
from ehrmind.removal import remove as remove_path
from ehrmind.runs.lines import append_line, keep_lines, read_lines
from ehrmind.runs.manifest import Manifest
from ehrmind.runs.records import Alarm, Record, RolloutRow, Scoring, StepMetrics, rollout_bytes, rows_of
from ehrmind.types import Case, InputError
from ehrmind.world import current, on_first

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")
R = TypeVar("R", bound=Record)
SEED = re.compile(r"-?[0-9]{1,19}")  # the name of a seed's folder
SPLITS = ("train", "tuning", "held_out")
METRICS, ALARMS, SCORINGS = "metrics.jsonl", "alarms.jsonl", "held_out_scorings.jsonl"
CASES, ROLLOUTS, MODELS, CHECKPOINTS = (f"protected/{kind}" for kind in ("cases", "rollouts", "models", "checkpoints"))


@dataclass(frozen=True)
class Run:
    """Reads and writes one run folder."""

    path: Path

    @cached_property
    def manifest(self) -> Manifest:
        """The digests of all stored files. Only the first worker uses them."""
        return Manifest(self.path)

    @property
    def protected(self) -> Path:
        return self.path / "protected"

    def cases(self, split: str) -> Path:
        return self.path / CASES / f"{split}.parquet"

    def model(self, arm: str) -> Path:
        return self.path / MODELS / arm

    def checkpoints(self, stage: str) -> Path:
        return self.path / CHECKPOINTS / stage

    @property
    def rollouts(self) -> Path:
        return self.path / ROLLOUTS

    def answers(self, folder: Literal["teacher", "endpoints"], stage: str) -> Path:
        """The file of an endpoint's answers in a stage. The teacher's answers lie apart from those
        of scored endpoints."""
        return self.protected / folder / f"{stage}.jsonl"

    def of_seed(self, seed: int) -> Run:
        """The run of one seed of several: a whole run folder of its own."""
        return Run(self.path / "seeds" / str(seed))

    def seeds(self) -> list[Run]:
        """Lists the runs of several seeds; empty for a run of one seed."""
        stored = [path for path in self.path.glob("seeds/*/recipe.yaml") if SEED.fullmatch(path.parent.name)]
        return [Run(path.parent) for path in sorted(stored, key=lambda path: int(path.parent.name))]

    def recipe(self) -> dict[str, Any]:
        """Reads the stored recipe, with every default. Raises InputError if it is damaged or no
        recipe."""
        found = yaml_value(
            self.manifest.read_bytes("recipe.yaml").decode(errors="replace"), str(self.path / "recipe.yaml")
        )
        if not isinstance(found, dict):
            raise InputError(f"{self.path / 'recipe.yaml'} is not a recipe; run its recipe again into a new folder.")
        return found

    @on_first
    def put(self, name: str, content: bytes) -> None:
        """Stores a file, whole or not at all. Under `protected/` only the owner can read it."""
        self.manifest.put(name, content)

    def read(self, name: str) -> bytes | None:
        """Reads a stored file; None if it was never written. Raises InputError if it is not what
        was stored."""
        return self.manifest.read_bytes(name) if self.manifest.holds(name) else None

    @on_first
    def write_json(self, name: str, value: Any) -> None:
        """Stores a value as JSON."""
        self.put(name, json_bytes(value))

    @on_first
    def read_json(self, name: str) -> Any:
        """Reads a stored JSON value; None if it was never written. Raises InputError if it is not
        what was stored."""
        content = self.read(name)
        return None if content is None else json.loads(content)

    def write_record(self, name: str, record: Record) -> None:
        """Stores a record as JSON."""
        self.write_json(name, record.to_dict())

    def read_record(self, name: str, kind: type[R]) -> R | None:
        """Reads a stored record; None if it was never written. Raises InputError if it is damaged
        or has another shape."""
        tree = self.read_json(name)
        return None if tree is None else kind.from_dict(tree, str(self.path / name))

    def mark(self, stage: str, kind: type[R]) -> R | None:
        """Reads the mark of a finished stage; None while `done` is None. Raises InputError as
        `read_record` does."""
        tree = self.done(stage)
        return None if tree is None else kind.from_dict(tree, str(self.path / f"stages/{stage}.json"))

    @on_first
    def done(self, stage: str) -> dict[str, Any] | None:
        """Reads a stage's mark; None if the stage is not finished, or if somebody removed the mark
        to have it done again."""
        name = f"stages/{stage}.json"
        found: dict[str, Any] | None = self.read_json(name) if (self.path / name).is_file() else None
        return found

    @on_first
    def finished(self) -> list[str]:
        """Lists the finished stages by name."""
        there = [name for name in self.manifest.names("stages/") if (self.path / name).is_file()]
        return [name.removeprefix("stages/").removesuffix(".json") for name in there]

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Yields a dict for the stage's facts. The mark is written when the block ends without an
        error."""
        facts: dict[str, Any] = {}
        started = time.monotonic()
        yield facts
        self.write_json(f"stages/{name}.json", {"seconds": round(time.monotonic() - started, 1), **facts})
        self.remove(f"{CHECKPOINTS}/{name}")

    @on_first
    def remove(self, *names: str) -> None:
        """Removes files and folders. They count as never written from the start of the removal."""
        self.manifest.remove(*names)

    def keep_model(self, arm: str, save: Callable[[Path], T]) -> T:
        """Stores a model and returns what `save` returns. All workers call `save`, which writes
        into the folder it is given. An earlier model of the arm is replaced when the new one is
        whole."""
        made = Path(self._beside(arm)) / arm
        said = save(made)
        current().from_first(lambda: self._place_model(arm, made))
        return said

    @on_first
    def _beside(self, arm: str) -> str:
        make_folder(self.model(arm).parent, private=True)
        return str(new_sibling(self.model(arm)))

    def _place_model(self, arm: str, made: Path) -> None:
        self.manifest.put_folder(f"{MODELS}/{arm}", made)
        remove_path(made.parent)

    @on_first
    def _make_private(self, folder: Path) -> None:
        make_folder(folder, private=True)

    def prove_model(self, arm: str) -> None:
        """Raises InputError if a file of the arm's model is not what was stored."""
        self.manifest.prove(f"{MODELS}/{arm}")

    def keep_checkpoint(self, stage: str, step: int, save: Callable[[Path], object]) -> None:
        """Stores the checkpoint that `save` writes; all workers call it. Of the earlier checkpoints
        only the newest stays."""
        self.remove(*(f"{CHECKPOINTS}/{stage}/{old}" for old in self.checkpoint_names(stage)[:-1]))
        self._make_private(self.checkpoints(stage))
        name = f"step-{step:06d}"
        save(self.checkpoints(stage) / name)
        current().from_first(lambda: self.manifest.add(f"{CHECKPOINTS}/{stage}/{name}"))

    def latest_checkpoint(self, stage: str) -> Path | None:
        """The newest whole checkpoint of a stage; None if there is none."""
        whole = self.checkpoint_names(stage)
        return self.checkpoints(stage) / whole[-1] if whole else None

    @on_first
    def checkpoint_names(self, stage: str) -> list[str]:
        prefix = f"{CHECKPOINTS}/{stage}/"
        return sorted({name.removeprefix(prefix).partition("/")[0] for name in self.manifest.names(prefix)})

    @on_first
    def log(self, stage: str, arm: str, step: int, metrics: Mapping[str, float]) -> None:
        """Adds a line to metrics.jsonl."""
        append_line(self.path / METRICS, StepMetrics(stage, arm, step, round(time.time(), 3), metrics).to_dict())

    def metrics(self) -> list[StepMetrics]:
        """Every line of metrics.jsonl, in order."""
        return [StepMetrics.from_dict(row) for row in self._lines(METRICS)]

    @on_first
    def raise_alarm(self, stage: str, arm: str, step: int, alarm: str, said: str) -> None:
        """Adds a line to alarms.jsonl."""
        raised = Alarm(stage=stage, arm=arm, step=step, alarm=alarm, said=said)
        append_line(self.path / ALARMS, raised.to_dict())

    def alarms(self) -> list[Alarm]:
        """Every line of alarms.jsonl, in order."""
        return [Alarm.from_dict(row, str(self.path / ALARMS)) for row in self._lines(ALARMS)]

    @on_first
    def count_scoring(self, arm: str, decoding: str, seed: int) -> None:
        """Adds a line to held_out_scorings.jsonl before a scoring starts, so that unfinished ones
        are counted too."""
        started = Scoring(arm=arm, decoding=decoding, seed=seed, time=round(time.time(), 3))
        append_line(self.path / SCORINGS, started.to_dict())

    def scorings(self) -> list[Scoring]:
        """Every line of held_out_scorings.jsonl, in order."""
        return [Scoring.from_dict(row, str(self.path / SCORINGS)) for row in self._lines(SCORINGS)]

    @on_first
    def _lines(self, name: str) -> list[dict[str, Any]]:
        return read_lines(self.path / name)

    @on_first
    def rollback(self, stage: str, from_step: int) -> None:
        """Drops what an interrupted attempt wrote at `from_step` and later, before the stage
        resumes there."""
        self.rollback_metrics(stage, from_step)
        self.remove(*(_rollouts(stage, step) for step in self.rollout_steps(stage) if step >= from_step))

    @on_first
    def rollback_metrics(self, stage: str, from_step: int) -> None:
        """Drops lines of metrics and alarms of `from_step` and later."""
        for name in (METRICS, ALARMS):
            keep_lines(self.path / name, lambda row: row["stage"] != stage or row["step"] < from_step)

    @on_first
    def write_rollouts(self, stage: str, step: int, rows: Sequence[RolloutRow]) -> None:
        """Stores a step's sampled answers with their verdicts: one file per step."""
        self.put(_rollouts(stage, step), rollout_bytes(rows))

    @on_first
    def rollout_steps(self, stage: str) -> list[int]:
        """Lists the steps of a stage whose rollouts are written."""
        form = re.compile(re.escape(f"{ROLLOUTS}/{stage}-") + r"(\d+)\.parquet")
        return sorted(
            int(match[1]) for name in self.manifest.names(f"{ROLLOUTS}/{stage}-") if (match := form.fullmatch(name))
        )

    def rollout_files(self) -> list[Path]:
        """Lists the rollout files of all stages. Raises InputError if one is not what was
        stored."""
        self.manifest.prove(ROLLOUTS)
        return [self.path / name for name in self.manifest.names(f"{ROLLOUTS}/")]

    def rollout_rows(self, stage: str) -> list[RolloutRow]:
        """Reads all rollouts of a stage. Raises InputError if a file is not what was stored."""
        return rows_of(self.read_rollouts(stage))

    def read_rollouts(self, stage: str) -> pl.DataFrame:
        """Reads all rollouts of a stage as one frame. Raises InputError if a file is not what was
        stored."""
        import polars as pl

        def read() -> pl.DataFrame:
            names = [_rollouts(stage, step) for step in self.rollout_steps(stage)]
            return pl.concat([pl.read_parquet(io.BytesIO(self.manifest.read_bytes(name))) for name in names])

        world = current()
        return read() if world.size == 1 else pl.read_ipc(world.from_first(lambda: read().write_ipc(None).getvalue()))

    def predictions(self, scored: str, task: str) -> Path:
        """The file of predictions of `scored` (such as `base-greedy`) on a task. A user chose the
        task's name; no two names share a file."""
        return self.protected / "predictions" / f"{scored}-{file_name(task)}.parquet"

    @on_first
    def write_predictions(self, scored: str, task: str, frame: pl.DataFrame) -> None:
        """Stores predictions, one row per case."""
        self.put(self.predictions(scored, task).relative_to(self.path).as_posix(), parquet_bytes(frame))

    @on_first
    def save_cases(self, splits: Mapping[str, list[Case]]) -> None:
        from ehrmind.data.cases import cases_bytes

        for split, cases in splits.items():
            self.put(f"{CASES}/{split}.parquet", cases_bytes(cases))

    def has_cases(self, split: str) -> bool:
        return self.manifest.holds(f"{CASES}/{split}.parquet")

    def load_split(self, split: str) -> list[Case]:
        """Reads one split's cases. Raises InputError if the file is not what was stored."""
        from ehrmind.data import load_cases

        self.manifest.prove(f"{CASES}/{split}.parquet")
        return load_cases(self.cases(split))

    def load_cases(self) -> dict[str, list[Case]]:
        transfer = [Path(name).stem for name in self.manifest.names(f"{CASES}/transfer-")]
        return {split: self.load_split(split) for split in (*SPLITS, *transfer)}


def _rollouts(stage: str, step: int) -> str:
    return f"{ROLLOUTS}/{stage}-{step:06d}.parquet"
