"""The run folder: the only code that knows its paths.

    recipe.yaml  provenance.json  stages/<stage>.json  metrics.jsonl  alarms.jsonl  pilot.json  results.json  report.html
    contamination.json  seeds/<seed>/ (a run folder each)
    protected/   cases/  rollouts/<stage>-<step>.parquet  checkpoints/<stage>/step-<n>/  models/<arm>/
                 predictions/<arm>-<decoding>-<task>.parquet  teacher/<stage>.jsonl  endpoints/<stage>.jsonl

What lies under `protected/` holds or may hold record text and is readable by its owner only; everything else is figures and ids.
A folder is never used twice: it is new, or it is resumed under the same recipe. Of several workers the first alone reads and writes it, and
tells the others what it found.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from ehrmind.config import Recipe, differing_keys, parse_recipe
from ehrmind.files import file_name, is_json, lines_of, write_json, write_text
from ehrmind.runs.lock import sign
from ehrmind.runs.protected import keep_private
from ehrmind.runs.start import FOLDERS, PURGING, is_bare
from ehrmind.types import Case, Group, InputError
from ehrmind.world import current, on_first

if TYPE_CHECKING:
    import polars as pl

SPLITS = ("train", "tuning", "held_out")
Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Paths and records of one run."""

    path: Path

    @property
    def protected(self) -> Path:
        return self.path / "protected"

    def cases(self, split: str) -> Path:
        return self.protected / "cases" / f"{split}.parquet"

    def model(self, arm: str) -> Path:
        return self.protected / "models" / arm

    def checkpoints(self, stage: str) -> Path:
        return self.protected / "checkpoints" / stage

    def latest_checkpoint(self, stage: str) -> Path | None:
        """The newest whole checkpoint of a stage, or None."""
        whole = self._whole_checkpoints(stage)
        return self.checkpoints(stage) / whole[-1] if whole else None

    @on_first
    def _whole_checkpoints(self, stage: str) -> list[str]:
        return sorted(path.name for path in self.checkpoints(stage).glob("step-*") if (path / "progress.json").is_file())

    def new_checkpoint(self, stage: str, step: int) -> Path:
        """Where the checkpoint of this step goes; all but the newest one there already are removed."""
        self._keep_newest_checkpoint(stage)
        return self.checkpoints(stage) / f"step-{step:06d}"

    @on_first
    def _keep_newest_checkpoint(self, stage: str) -> None:
        for old in sorted(self.checkpoints(stage).glob("step-*"))[:-1]:
            shutil.rmtree(old, ignore_errors=True)

    def of_seed(self, seed: int) -> Run:
        """The run of one of several seeds, a whole run folder of its own."""
        return Run(self.path / "seeds" / str(seed))

    def seeds(self) -> list[Run]:
        """The runs of several seeds; none where there is one."""
        return [Run(stored.parent) for stored in sorted(self.path.glob("seeds/*/recipe.yaml"), key=lambda stored: int(stored.parent.name))]

    @property
    def rollouts(self) -> Path:
        return self.protected / "rollouts"

    def answers(self, folder: Literal["teacher", "endpoints"], stage: str) -> Path:
        """The file of what an endpoint answered in a stage; the teacher's is apart from those of endpoints that are scored."""
        return self.protected / folder / f"{stage}.jsonl"

    @on_first
    def done(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage left behind, or None while it is not finished."""
        mark = self.path / "stages" / f"{stage}.json"
        return json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else None

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Fill the yielded facts; the done mark is written when the block ends well."""
        facts: dict[str, Any] = {}
        started = time.monotonic()
        yield facts
        self.write_json(f"stages/{name}.json", {"seconds": round(time.monotonic() - started, 1), **facts})
        current().from_first(lambda: shutil.rmtree(self.checkpoints(name), ignore_errors=True))

    @on_first
    def write_json(self, name: str, value: Any) -> None:
        write_json(self.path / name, value)

    @on_first
    def read_json(self, name: str) -> Any:
        """None where there is no such file, or something has torn it: it can be made again."""
        return json.loads((self.path / name).read_text(encoding="utf-8")) if is_json(self.path / name) else None

    @on_first
    def log(self, stage: str, arm: str, step: int, metrics: Mapping[str, float]) -> None:
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, "arm": arm, "step": step, "time": round(time.time(), 3), **metrics}) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl, in order."""
        return self._lines("metrics.jsonl")

    @on_first
    def raise_alarm(self, stage: str, arm: str, step: int, alarm: str, said: str) -> None:
        with (self.path / "alarms.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, "arm": arm, "step": step, "alarm": alarm, "said": said}, ensure_ascii=False) + "\n")

    def alarms(self) -> list[dict[str, Any]]:
        """Every line of alarms.jsonl, in order."""
        return self._lines("alarms.jsonl")

    @on_first
    def _lines(self, name: str) -> list[dict[str, Any]]:
        file = self.path / name
        return [json.loads(line) for line in lines_of(file.read_text(encoding="utf-8"))] if file.is_file() else []

    @on_first
    def forget(self, stage: str, from_step: int) -> None:
        """Before a stage goes on at `from_step`: drop what an interrupted attempt wrote of that step and later."""
        self.forget_metrics(stage, from_step)
        for step in self.rollout_steps(stage):
            if step >= from_step:
                (self.rollouts / f"{stage}-{step:06d}.parquet").unlink()

    @on_first
    def forget_metrics(self, stage: str, from_step: int) -> None:
        for file in (self.path / "metrics.jsonl", self.path / "alarms.jsonl"):
            if file.is_file():
                rows = [line for line in lines_of(file.read_text(encoding="utf-8")) if not _of(line, stage, from_step)]
                write_text(file, "".join(row + "\n" for row in rows))

    @on_first
    def write_rollouts(self, stage: str, step: int, rows: Sequence[Row]) -> None:
        """Every sampled answer with its verdict; one file a step, whole or not at all."""
        import polars as pl

        schema_overrides: dict[str, Any] = {
            "reason": pl.String,
            "advantage": pl.Float64,
            "text": pl.String,
            "probabilities": pl.List(pl.Float64),
        }
        frame = pl.DataFrame(rows, schema_overrides=schema_overrides, infer_schema_length=None)
        target = self.rollouts / f"{stage}-{step:06d}.parquet"
        partial = target.with_suffix(".partial")
        frame.write_parquet(partial)
        partial.replace(target)

    def predictions(self, scored: str, task: str) -> Path:
        """Of what was scored (`base-greedy`) on a task; a task's name comes from a person, and no two names share a file."""
        return self.protected / "predictions" / f"{scored}-{file_name(task)}.parquet"

    @on_first
    def write_predictions(self, scored: str, task: str, frame: pl.DataFrame) -> None:
        """A row a case; whole or not at all."""
        target = self.predictions(scored, task)
        target.parent.mkdir(exist_ok=True)
        partial = target.with_suffix(".partial")
        frame.write_parquet(partial)
        partial.replace(target)

    @on_first
    def rollout_steps(self, stage: str) -> list[int]:
        """The steps of a stage whose rollouts are written."""
        return sorted(int(file.stem.rsplit("-", 1)[1]) for file in self.rollouts.glob(f"{stage}-*.parquet"))

    def read_rollouts(self, stage: str) -> Any:
        """All rollouts of a stage as one polars frame."""
        import polars as pl

        def read() -> pl.DataFrame:
            return pl.concat([pl.read_parquet(file) for file in sorted(self.rollouts.glob(f"{stage}-*.parquet"))])

        world = current()
        return read() if world.size == 1 else pl.read_ipc(world.from_first(lambda: read().write_ipc(None).getvalue()))

    @on_first
    def count_scoring(self, arm: str, decoding: str, seed: int) -> None:
        """Every scoring of held-out cases is written down before it starts, finished or not."""
        with (self.path / "held_out_scorings.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"arm": arm, "decoding": decoding, "seed": seed, "time": round(time.time(), 3)}) + "\n")

    def scorings(self) -> list[dict[str, Any]]:
        return self._lines("held_out_scorings.jsonl")

    @on_first
    def save_cases(self, splits: Mapping[str, list[Case]]) -> None:
        from ehrmind.sources import save_cases

        for split, cases in splits.items():
            save_cases(cases, self.cases(split))

    def load_cases(self) -> dict[str, list[Case]]:
        from ehrmind.sources import load_cases

        elsewhere = sorted(path.stem for path in self.cases("train").parent.glob("elsewhere-*.parquet"))
        return {split: load_cases(self.cases(split)) for split in (*SPLITS, *elsewhere)}


def rollout_rows(stage: str, arm: str, step: int, groups: Iterable[Group]) -> list[Row]:
    """An answer a row, as `write_rollouts` keeps it."""
    return [
        {
            "step": step,
            "arm": arm,
            "stage": stage,
            "case": group.case.id,
            "stratum": group.case.stratum,
            "member": member,
            "text": completion.text,
            "earlier": completion.earlier,
            "reward": verdict.reward,
            "parts": dict(verdict.parts),
            "correct": verdict.correct,
            "reason": verdict.reason,
            "advantage": group.advantages[member] if group.advantages else None,
            "tokens": completion.n_written,
            "prompt_tokens": len(group.prompt.token_ids),
            "logprob": sum(sum(segment.logprobs) for segment in completion.segments if segment.trainable),
            "finish_reason": completion.finish_reason,
            "well_formed": verdict.well_formed,
            "probabilities": None,
        }
        for group in groups
        for member, (completion, verdict) in enumerate(zip(group.completions, group.verdicts, strict=True))
    ]


def open_run(path: Path, recipe: Recipe, *, resume: bool) -> Run:
    """Make a run folder, or open one to go on with it. Refuses a used folder, and a resume under another recipe."""
    _open(path, recipe, resume)
    return Run(path)


@on_first
def _open(path: Path, recipe: Recipe, resume: bool) -> None:
    resolved = recipe.model_dump(mode="json")
    stored = path / "recipe.yaml"
    run = Run(path)
    if path.exists() and any(path.iterdir()) and not is_bare(path):
        if not stored.is_file():
            raise InputError(f"{path} is not empty and is no run folder; choose another --out.")
        if not resume:
            raise InputError(f"{path} already holds a run; go on with it by --resume, or choose another --out.")
        before = _as_known_here(yaml.safe_load(stored.read_text(encoding="utf-8")))
        differing = differing_keys({**before, "cluster": None}, {**resolved, "cluster": None})  # other workers may go on with it
        if differing:
            raise InputError(f"{path} was made with another recipe, so it cannot be resumed; these keys differ: {', '.join(differing)}.")
        if run.done(PURGING) is not None:
            raise InputError(f"{path} is purged in part; go on with `ehrmind runs purge {path}`, and choose another --out.")
        if run.done("purged") is not None:
            raise InputError(f"{path} was purged: its cases, rollouts and models are gone, its figures stay; choose another --out.")
        _make_folders(run)  # a kill may have come before the last of them
        return
    _make_folders(run)
    write_text(stored, yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))


def _make_folders(run: Run) -> None:
    for folder in FOLDERS:
        (run.path / folder).mkdir(parents=True, exist_ok=True)
    keep_private(run.protected)
    run.protected.chmod(0o700)
    sign(run.path, run.protected)


def _as_known_here(tree: dict[str, Any]) -> dict[str, Any]:
    """A stored recipe with the defaults of keys that its version did not have; as it is where this version cannot read it."""
    try:
        return parse_recipe(tree).model_dump(mode="json")
    except InputError:
        return tree


def _of(line: str, stage: str, from_step: int) -> bool:
    """Whether a metrics line is of this stage and step or later; a line torn by a crash goes too."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return True
    return bool(row["stage"] == stage and row["step"] >= from_step)
