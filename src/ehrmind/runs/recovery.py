"""Recovery before a run resumes: everything in its folder is proven, and damage is reported before
anything is computed from it.

Damaged files that stages can make again are dropped; an unfinished stage goes back to its newest
whole state. Files that would take hours to make again are refused. The message names two remedies:
a copy of the file, or removing the stage's mark, so that the stage is done again."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ehrmind.config import split_arm
from ehrmind.documents import json_value
from ehrmind.files import clear_leftovers
from ehrmind.runs.contents import Fault
from ehrmind.runs.folder import ALARMS, CHECKPOINTS, METRICS, MODELS, ROLLOUTS, SCORINGS, Run
from ehrmind.runs.lines import mend, read_lines
from ehrmind.runs.protected import entered
from ehrmind.runs.records import StageKey
from ehrmind.types import InputError

MUCH = 1 << 30  # bytes; reading fewer is quick, so it is not announced
TRAINED = {
    "base": "model",
    "sft": "warmup",
    "rlvr": "rlvr-rlvr",
    "sft_rlvr": "rlvr-sft_rlvr",
}  # the stage that makes a model
STANDS_ON = {
    "warmup": ("sft", "sft_rlvr"),
    "rlvr-rlvr": ("rlvr",),
    "rlvr-sft_rlvr": ("sft_rlvr",),
}  # the models that depend on a stage
PINNED = ("recipe.yaml", "provenance.json", "stages/data.json", "protected/cases/")
_ROLLOUTS = re.compile(rf"{ROLLOUTS}/(?P<stage>.+)-(?P<step>\d{{6,}})\.parquet")
_CHECKPOINT = re.compile(rf"(?P<folder>{CHECKPOINTS}/[^/]+/step-\d+)/.+")
_MODEL = re.compile(rf"(?P<folder>{MODELS}/(?P<arm>{'|'.join(TRAINED)}))/.+")
Faults = Mapping[str, Fault]


def recover(run: Run) -> None:
    """Proves what a run will read and drops what it can make again. Raises InputError for damage
    that it cannot repair."""
    clear_all_leftovers(run)
    run.manifest.settle()
    for name in (METRICS, ALARMS, SCORINGS):
        mend(run.path / name)
        read_lines(run.path / name)
    run.remove(*_never_listed(run), *_of_no_use(run))
    faults = {fault.name: fault for fault in run.manifest.faults(told=_teller(run))}
    if faults:
        _mend(run, faults)
    _drop_without_best(run)


def _mend(run: Run, faults: Faults) -> None:
    _refuse_pinned(run, faults)
    again, stand_on_it = _done_again(run, faults)
    _refuse_lost_work(run, faults, set(run.finished()).difference(again, stand_on_it))
    for name, fault in faults.items():
        sys.stderr.write(f"{run.path / name} is {fault.what}; {_remedy(name)}\n")
    if stand_on_it:
        sys.stderr.write(f"done again, for they stand on it: {', '.join(stand_on_it)}\n")
    for name in faults:
        _drop(run, name)
    run.remove(*(f"stages/{stage}.json" for stage in (*again, *stand_on_it)))
    for stage in (*stand_on_it, *(stage for stage in again if stage in STANDS_ON)):
        run.remove(f"{CHECKPOINTS}/{stage}")
        run.rollback(stage, 0)
    if (
        again
        or stand_on_it
        or any(name.startswith(("results.json", "protected/predictions/", "trec_runs/")) for name in faults)
    ):
        run.remove("results.json")


def clear_all_leftovers(run: Run) -> None:
    """Removes what a kill left half-written anywhere in the run. The seeds are runs of their
    own."""
    waiting = [run.path]
    while waiting:
        folder = waiting.pop()
        clear_leftovers(folder, alone=True)
        waiting += [path for path in folder.iterdir() if entered(path) and path != run.path / "seeds"]


def _refuse_pinned(run: Run, faults: Faults) -> None:
    pinned = [fault for name, fault in faults.items() if name.startswith(PINNED)]
    if pinned:
        raise InputError(
            f"{run.path / pinned[0].name} is {pinned[0].what}{_and_more(pinned)}; the run began with it and it cannot"
            " be made again: restore it from a copy, or choose another --out."
        )


def _done_again(run: Run, faults: Faults) -> tuple[list[str], list[str]]:
    """Returns (stages that are done again, further stages that depend on them). A stage is done
    again if its mark was removed, or if something of it is damaged and it needs neither sampling
    nor training."""
    again = []
    for name, fault in faults.items():
        stage = _stage_of_mark(name)
        if stage is None:
            again += [made for made in [_made_by(name)] if made is not None]
        elif fault.what == "gone" or stage not in STANDS_ON:
            again.append(stage)
    models = {model for stage in again for model in STANDS_ON.get(stage, ())}
    if not models:
        return sorted(set(again)), []
    known = {
        *run.finished(),
        *(match["stage"] for name in run.manifest.names(f"{ROLLOUTS}/") if (match := _ROLLOUTS.fullmatch(name))),
    }
    known |= {name.split("/")[2] for name in run.manifest.names(f"{CHECKPOINTS}/")}
    stand_on_it = {stage for stage in known if _is_of(run, stage, models)} | (
        {"rlvr-sft_rlvr"} & known if "warmup" in again else set()
    )
    return sorted(set(again)), sorted(stand_on_it.difference(again))


def _is_of(run: Run, stage: str, models: Iterable[str]) -> bool:
    """Tells whether a stage scores an arm of any of these models."""
    key = StageKey.parse(stage)
    arms = {arm for arm in (*run.recipe()["arms"], *models) if split_arm(arm)[0] in models}
    return key.is_scoring and key.arm in arms


def _made_by(name: str) -> str | None:
    """Returns the quick stage that makes a file; None for files that every run makes at its end, or
    that other commands make."""
    if name.endswith("contamination.json"):
        return "contamination"
    if name.startswith(f"{MODELS}/base/"):
        return "model"
    return "baselines" if name == "protected/baselines.json" else None


def _refuse_lost_work(run: Run, faults: Faults, finished: set[str]) -> None:
    lost = [(fault, stage) for fault in faults.values() if (stage := _needed_by(fault.name, finished)) is not None]
    if lost:
        fault, stage = lost[0]
        raise InputError(
            f"{run.path / fault.name} is {fault.what}{_and_more(lost)}; the stage {stage} is finished and needs it:"
            f" restore it from a copy, or remove {run.path / 'stages' / stage}.json, and --resume does the stage again."
        )


def _needed_by(name: str, finished: set[str]) -> str | None:
    """Returns the finished stage that a damaged file belongs to and that does not make it again by
    itself; None if there is none."""
    stage = _stage_of_mark(name)
    if match := _ROLLOUTS.fullmatch(name):
        stage, key = match["stage"], StageKey.parse(match["stage"])
        if stage.startswith("intervention-"):
            stage = "pilot"
        elif stage.startswith("resample-"):
            stage = "warmup"
        elif key.kind == "votes":
            voting = (one for one in sorted(finished) if StageKey.parse(one).arm.startswith(f"{key.arm}_"))
            stage = next((one for one in voting if StageKey.parse(one).kind == "evaluate"), stage)
    elif match := _MODEL.fullmatch(name):
        stage = TRAINED[match["arm"]]
    return stage if stage in finished else None


def _stage_of_mark(name: str) -> str | None:
    return name.removeprefix("stages/").removesuffix(".json") if name.startswith("stages/") else None


def _and_more(found: Sequence[Any]) -> str:
    return f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""


def _remedy(name: str) -> str:
    if stage := _stage_of_mark(name):
        return f"the stage {stage} is done again"
    if _CHECKPOINT.fullmatch(name):
        return "the newest whole checkpoint before it is taken, or the stage starts again"
    if match := _ROLLOUTS.fullmatch(name):
        return f"{match['stage']} goes back to its newest whole state before it"
    if match := _MODEL.fullmatch(name):
        return f"the stage {TRAINED[match['arm']]} makes it again"
    if name.endswith("review.json"):
        return "it is no longer used; write it again by `ehrmind review`"
    return "it is made again"


def _drop(run: Run, name: str) -> None:
    """Removes what is damaged and what has seen more than it; the stages then find nothing, and
    make it."""
    if match := _ROLLOUTS.fullmatch(name):
        stage, step = match["stage"], int(match["step"])
        later = [one for one in run.checkpoint_names(stage) if int(one.removeprefix("step-")) > step]
        run.remove(*(f"{CHECKPOINTS}/{stage}/{one}" for one in later))
        run.rollback(stage, step)
    elif match := _MODEL.fullmatch(name):
        run.remove(match["folder"], f"{CHECKPOINTS}/{TRAINED[match['arm']]}")
    elif match := _CHECKPOINT.fullmatch(name):
        run.remove(match["folder"])
    else:
        run.remove(name)


def _drop_without_best(run: Run) -> None:
    """Drops the checkpoints of an RLVR stage whose best model is missing, for example because it
    was interrupted on its way to a store."""
    for arm in ("rlvr", "sft_rlvr"):
        stage = TRAINED[arm]
        names = [f"{CHECKPOINTS}/{stage}/{one}/progress.json" for one in run.checkpoint_names(stage)]
        seen = [_best_step(json_value(run.manifest.read_bytes(name), str(run.path / name))) for name in names]
        if any(seen) and not run.manifest.names(f"{MODELS}/{arm}/"):
            sys.stderr.write(f"{run.model(arm)}, the best model so far, is not there; the stage {stage} starts again\n")
            run.remove(f"{CHECKPOINTS}/{stage}")


def _best_step(progress: Any) -> int:
    found = progress.get("best_step", 0) if isinstance(progress, dict) else 0
    return found if isinstance(found, int) else 0


def _never_listed(run: Run) -> list[str]:
    """Lists rollouts, models and checkpoints that a kill left unlisted. They count as never
    written."""
    listed = set(run.manifest.names())
    folders = {match["folder"] for name in listed if (match := _CHECKPOINT.fullmatch(name) or _MODEL.fullmatch(name))}
    found = [f"{ROLLOUTS}/{path.name}" for path in run.rollouts.glob("*.parquet")]
    found = [name for name in found if _ROLLOUTS.fullmatch(name) and name not in listed]
    made = [*(run.path / MODELS).glob("*"), *(run.path / CHECKPOINTS).glob("*/*")]
    for path in made:
        name = path.relative_to(run.path).as_posix()
        if (_MODEL.fullmatch(f"{name}/x") or _CHECKPOINT.fullmatch(f"{name}/x")) and name not in folders:
            found.append(name)
    return sorted(found)


def _of_no_use(run: Run) -> list[str]:
    """Lists checkpoints of finished stages, left by a kill after the stage's mark was written."""
    left = (run.path / CHECKPOINTS).glob("*")
    return sorted(
        f"{CHECKPOINTS}/{path.name}" for path in left if (run.path / "stages" / f"{path.name}.json").is_file()
    )


def _teller(run: Run) -> Callable[[str, int], None] | None:
    """Returns a function that announces large files before they are read; None if all are small."""
    if sum(there.bytes for there in run.manifest.read().files.values()) < MUCH:
        return None

    def tell(name: str, size: int) -> None:
        if size >= MUCH // 4:
            sys.stderr.write(f"proving {run.path / name} ({size / (1 << 30):.1f} GiB)\n")

    return tell
