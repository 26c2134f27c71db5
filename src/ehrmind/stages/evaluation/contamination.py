"""The contamination check of a run. contamination.json has figures; the cases' ids stay under
protected/."""

from __future__ import annotations

from collections.abc import Iterator

from ehrmind.data.contamination import learned_from, shared_text
from ehrmind.engines.answers import AnswerFile
from ehrmind.runs import Run
from ehrmind.runs.records import Contamination
from ehrmind.stages.context import StageContext


def check_contamination(context: StageContext) -> dict[str, Contamination]:
    """Compares every set of held-out cases with `train`, `tuning` and, where a teacher was asked,
    its worked answers."""
    run, splits = context.run, context.splits
    figures, rows = {}, {}
    for name in splits.keys() - {"train", "tuning"}:
        known = {"train": learned_from(splits["train"]), "tuning": learned_from(splits["tuning"])}
        if run.answers("teacher", "warmup").is_file():
            known["teacher"] = _from_teacher(run)
        shared, rows[name] = shared_text(splits[name], known)
        figures[name.removeprefix("transfer-")] = Contamination.model_validate(shared)
    found = {name: figures[name] for name in sorted(figures)}
    run.write_json("protected/contamination.json", {name: rows[name] for name in sorted(rows)})
    run.write_json("contamination.json", {name: shared.to_dict() for name, shared in found.items()})
    return found


def read_contamination(run: Run) -> dict[str, Contamination]:
    """Reads contamination.json; empty if it was never written."""
    found, place = run.read_json("contamination.json") or {}, str(run.path / "contamination.json")
    return {name: Contamination.from_dict(tree, place) for name, tree in found.items()}


def _from_teacher(run: Run) -> Iterator[str]:
    """Yields all texts of the teacher, whether they were learned from or not."""
    for answer in AnswerFile(run.answers("teacher", "warmup")).answers.values():
        yield answer.text
        yield answer.reasoning
