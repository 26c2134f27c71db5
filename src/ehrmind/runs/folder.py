"""The run folder: the only code that knows its paths.

    recipe.yaml  provenance.json  stages/<stage>.json  metrics.jsonl  alarms.jsonl  pilot.json  results.json  report.html
    contamination.json  manifest.json  seeds/<seed>/ (a run folder each)
    protected/   cases/  rollouts/<stage>-<step>.parquet  checkpoints/<stage>/step-<n>/  models/<arm>/
                 predictions/<arm>-<decoding>-<task>.parquet  teacher/<stage>.jsonl  endpoints/<stage>.jsonl

What lies under `protected/` holds or may hold record text and is readable by its owner only; everything else is figures and ids.
A folder is never used twice: it is new, or it is resumed under the same recipe. Of several workers the first alone reads and writes it, and
tells the others what it found.

Everything that is stored is listed with its digest in `manifest.json` (`manifest`), and a file that is not listed counts as never written;
what grows by lines has a digest in each (`lines`). What is read is proven first, and `recovery` proves a whole folder before a run goes on.
"""

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
from ehrmind.runs.rollouts import Row, rollout_bytes
from ehrmind.types import Case, InputError
from ehrmind.world import current, on_first

if TYPE_CHECKING:
    import polars as pl

T = TypeVar("T")
SEED = re.compile(r"-?[0-9]{1,19}")  # the name of a seed's folder
SPLITS = ("train", "tuning", "held_out")
METRICS, ALARMS, SCORINGS = "metrics.jsonl", "alarms.jsonl", "held_out_scorings.jsonl"
CASES, ROLLOUTS, MODELS, CHECKPOINTS = (f"protected/{kind}" for kind in ("cases", "rollouts", "models", "checkpoints"))


@dataclass(frozen=True)
class Run:
    """Paths and records of one run."""

    path: Path

    @cached_property
    def manifest(self) -> Manifest:
        """Digests of all that is stored. The first worker's alone."""
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
        """The file of what an endpoint answered in a stage; the teacher's is apart from those of endpoints that are scored."""
        return self.protected / folder / f"{stage}.jsonl"

    def of_seed(self, seed: int) -> Run:
        """The run of one of several seeds, a whole run folder of its own."""
        return Run(self.path / "seeds" / str(seed))

    def seeds(self) -> list[Run]:
        """The runs of several seeds; none where there is one."""
        stored = [path for path in self.path.glob("seeds/*/recipe.yaml") if SEED.fullmatch(path.parent.name)]
        return [Run(path.parent) for path in sorted(stored, key=lambda path: int(path.parent.name))]

    def recipe(self) -> dict[str, Any]:
        """The recipe as it was stored, with every default. Raises InputError where that is damaged, or no recipe."""
        found = yaml_value(
            self.manifest.read_bytes("recipe.yaml").decode(errors="replace"), str(self.path / "recipe.yaml")
        )
        if not isinstance(found, dict):
            raise InputError(f"{self.path / 'recipe.yaml'} is not a recipe; run its recipe again into a new folder.")
        return found

    @on_first
    def put(self, name: str, content: bytes) -> None:
        """Stores a file, whole or not at all; the owner's alone under `protected/`."""
        self.manifest.put(name, content)

    def read(self, name: str) -> bytes | None:
        """A stored file's content; None where it was never written. Raises InputError where it is not what was stored."""
        return self.manifest.read_bytes(name) if self.manifest.holds(name) else None

    @on_first
    def write_json(self, name: str, value: Any) -> None:
        self.put(name, json_bytes(value))

    @on_first
    def read_json(self, name: str) -> Any:
        """None where it was never written. Raises InputError where it is not what was stored."""
        content = self.read(name)
        return None if content is None else json.loads(content)

    @on_first
    def done(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage left behind, or None while it is not finished, or where somebody removed its mark to have it done again."""
        name = f"stages/{stage}.json"
        found: dict[str, Any] | None = self.read_json(name) if (self.path / name).is_file() else None
        return found

    @on_first
    def finished(self) -> list[str]:
        """The stages that are done, by name."""
        there = [name for name in self.manifest.names("stages/") if (self.path / name).is_file()]
        return [name.removeprefix("stages/").removesuffix(".json") for name in there]

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Fill the yielded facts; the done mark is written when the block ends well."""
        facts: dict[str, Any] = {}
        started = time.monotonic()
        yield facts
        self.write_json(f"stages/{name}.json", {"seconds": round(time.monotonic() - started, 1), **facts})
        self.remove(f"{CHECKPOINTS}/{name}")

    @on_first
    def remove(self, *names: str) -> None:
        """Removes files and folders, which count as never written before the first of them is gone."""
        self.manifest.remove(*names)

    def keep_model(self, arm: str, save: Callable[[Path], T]) -> T:
        """Stores the model that `save`, called by all workers, writes into the folder it is given; returns what it returns. A model of the
        arm that is there is replaced when the new one is whole."""
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
        """Raises InputError where a file of the arm's model is not what was stored."""
        self.manifest.prove(f"{MODELS}/{arm}")

    def keep_checkpoint(self, stage: str, step: int, save: Callable[[Path], object]) -> None:
        """Stores the checkpoint that `save`, called by all workers, writes whole; of those before, the newest stays."""
        self.remove(*(f"{CHECKPOINTS}/{stage}/{old}" for old in self.checkpoint_names(stage)[:-1]))
        self._make_private(self.checkpoints(stage))
        name = f"step-{step:06d}"
        save(self.checkpoints(stage) / name)
        current().from_first(lambda: self.manifest.add(f"{CHECKPOINTS}/{stage}/{name}"))

    def latest_checkpoint(self, stage: str) -> Path | None:
        """The newest whole checkpoint of a stage, or None."""
        whole = self.checkpoint_names(stage)
        return self.checkpoints(stage) / whole[-1] if whole else None

    @on_first
    def checkpoint_names(self, stage: str) -> list[str]:
        prefix = f"{CHECKPOINTS}/{stage}/"
        return sorted({name.removeprefix(prefix).partition("/")[0] for name in self.manifest.names(prefix)})

    @on_first
    def log(self, stage: str, arm: str, step: int, metrics: Mapping[str, float]) -> None:
        row = {"stage": stage, "arm": arm, "step": step, "time": round(time.time(), 3), **metrics}
        append_line(self.path / METRICS, row)

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl, in order."""
        return self._lines(METRICS)

    @on_first
    def raise_alarm(self, stage: str, arm: str, step: int, alarm: str, said: str) -> None:
        append_line(self.path / ALARMS, {"stage": stage, "arm": arm, "step": step, "alarm": alarm, "said": said})

    def alarms(self) -> list[dict[str, Any]]:
        """Every line of alarms.jsonl, in order."""
        return self._lines(ALARMS)

    @on_first
    def count_scoring(self, arm: str, decoding: str, seed: int) -> None:
        """Every scoring of held-out cases is written down before it starts, finished or not."""
        append_line(
            self.path / SCORINGS, {"arm": arm, "decoding": decoding, "seed": seed, "time": round(time.time(), 3)}
        )

    def scorings(self) -> list[dict[str, Any]]:
        return self._lines(SCORINGS)

    @on_first
    def _lines(self, name: str) -> list[dict[str, Any]]:
        return read_lines(self.path / name)

    @on_first
    def rollback(self, stage: str, from_step: int) -> None:
        """Before a stage goes on at `from_step`: drop what an interrupted attempt wrote of that step and later."""
        self.rollback_metrics(stage, from_step)
        self.remove(*(_rollouts(stage, step) for step in self.rollout_steps(stage) if step >= from_step))

    @on_first
    def rollback_metrics(self, stage: str, from_step: int) -> None:
        for name in (METRICS, ALARMS):
            keep_lines(self.path / name, lambda row: row["stage"] != stage or row["step"] < from_step)

    @on_first
    def write_rollouts(self, stage: str, step: int, rows: Sequence[Row]) -> None:
        """Every sampled answer with its verdict; one file a step."""
        self.put(_rollouts(stage, step), rollout_bytes(rows))

    @on_first
    def rollout_steps(self, stage: str) -> list[int]:
        """The steps of a stage whose rollouts are written."""
        form = re.compile(re.escape(f"{ROLLOUTS}/{stage}-") + r"(\d+)\.parquet")
        return sorted(
            int(match[1]) for name in self.manifest.names(f"{ROLLOUTS}/{stage}-") if (match := form.fullmatch(name))
        )

    def rollout_files(self) -> list[Path]:
        """The files of all stages. Raises InputError where one is not what was stored."""
        self.manifest.prove(ROLLOUTS)
        return [self.path / name for name in self.manifest.names(f"{ROLLOUTS}/")]

    def read_rollouts(self, stage: str) -> Any:
        """All rollouts of a stage as one polars frame. Raises InputError where a file is not what was stored."""
        import polars as pl

        def read() -> pl.DataFrame:
            names = [_rollouts(stage, step) for step in self.rollout_steps(stage)]
            return pl.concat([pl.read_parquet(io.BytesIO(self.manifest.read_bytes(name))) for name in names])

        world = current()
        return read() if world.size == 1 else pl.read_ipc(world.from_first(lambda: read().write_ipc(None).getvalue()))

    def predictions(self, scored: str, task: str) -> Path:
        """Of what was scored (`base-greedy`) on a task; a task's name comes from a person, and no two names share a file."""
        return self.protected / "predictions" / f"{scored}-{file_name(task)}.parquet"

    @on_first
    def write_predictions(self, scored: str, task: str, frame: pl.DataFrame) -> None:
        """A row a case."""
        self.put(self.predictions(scored, task).relative_to(self.path).as_posix(), parquet_bytes(frame))

    @on_first
    def save_cases(self, splits: Mapping[str, list[Case]]) -> None:
        from ehrmind.data.cases import cases_bytes

        for split, cases in splits.items():
            self.put(f"{CASES}/{split}.parquet", cases_bytes(cases))

    def has_cases(self, split: str) -> bool:
        return self.manifest.holds(f"{CASES}/{split}.parquet")

    def load_split(self, split: str) -> list[Case]:
        """Raises InputError where the file is not what was stored."""
        from ehrmind.data import load_cases

        self.manifest.prove(f"{CASES}/{split}.parquet")
        return load_cases(self.cases(split))

    def load_cases(self) -> dict[str, list[Case]]:
        transfer = [Path(name).stem for name in self.manifest.names(f"{CASES}/transfer-")]
        return {split: self.load_split(split) for split in (*SPLITS, *transfer)}


def _rollouts(stage: str, step: int) -> str:
    return f"{ROLLOUTS}/{stage}-{step:06d}.parquet"
