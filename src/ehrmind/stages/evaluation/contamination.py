"""The contamination check of a run: contamination.json has figures, the cases' ids stay under protected/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ehrmind.data.contamination import learned_from, shared_text
from ehrmind.engines.answers import AnswerFile
from ehrmind.runs import Run
from ehrmind.types import Case


def check_contamination(run: Run, splits: Mapping[str, Sequence[Case]]) -> dict[str, Any]:
    """Every place where arms are scored against `train`, `tuning` and, where a teacher was asked, its worked answers."""
    places, rows = {}, {}
    for name in splits.keys() - {"train", "tuning"}:
        known = {"train": learned_from(splits["train"]), "tuning": learned_from(splits["tuning"])}
        if run.answers("teacher", "warmup").is_file():
            known["teacher"] = _told(run)
        places[name.removeprefix("transfer-")], rows[name] = shared_text(splits[name], known)
    found = {name: places[name] for name in sorted(places)}
    run.write_json("protected/contamination.json", {name: rows[name] for name in sorted(rows)})
    run.write_json("contamination.json", found)
    return found


def _told(run: Run) -> Iterator[str]:
    """What the teacher answered, learnt or not."""
    for answer in AnswerFile(run.answers("teacher", "warmup")).answers.values():
        yield answer.text
        yield answer.reasoning
