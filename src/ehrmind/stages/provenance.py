"""Facts that a run begins with and keeps: the day its prompts are written for, and the models that
decide its answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from ehrmind.runs import Run
from ehrmind.stages.models import differing_files, digests_of, refuse_changed
from ehrmind.types import InputError

NO_ADVICE = (
    "_from_model_config",
    "transformers_version",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
)


def record_provenance(run: Run, found: dict[str, Any], chosen: date | None) -> str:
    """Records and returns the day that the run is pinned to. Refuses to go on with another model
    than the one the run began with: a path in the recipe does not say what lies there."""
    stored = run.read_json("provenance.json") or {}
    if stored and (changed := differing_files(stored["model"]["sha256"], found["model"]["sha256"])):
        raise InputError(
            f"The run began with another model than the one now in {found['model']['name']} ({', '.join(changed)}); "
            "put that back, or choose another --out."
        )
    of_old = date.fromtimestamp((run.path / "recipe.yaml").stat().st_mtime)  # a run of a version that pinned no day
    day: str = stored.get("date") or (chosen or (of_old if stored else date.today())).isoformat()
    run.write_json("provenance.json", {**found, "date": day})
    return day


def refuse_changed_arms(run: Run, folders: Mapping[str, Path]) -> None:
    """Refuses to go on with models other than those that the run trained."""
    if run.read_json("results.json") is not None:
        return
    for arm in folders.keys() - {"base"}:
        refuse_changed(
            f"The model of the arm {arm}",
            "the one that the run trained",
            digests_of(run, arm),
            folders[arm],
            "put that back",
        )


def advice_of(base: Path) -> dict[str, Any]:
    """Reads what the model's makers advise for sampling. The run leaves it out, and an export does
    not carry it."""
    file = base / "generation_config.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    left_out = {name: value for name, value in said.items() if not name.endswith("_token_id") and name not in NO_ADVICE}
    return {"generation_advice": left_out} if left_out.keys() - {"do_sample"} or left_out.get("do_sample") else {}
