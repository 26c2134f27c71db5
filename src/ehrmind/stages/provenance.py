"""Provenance of a run: the versions, data, model and day that decide its figures. They are recorded once and checked on resume."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from ehrmind.config import Model, Recipe, recipe_digest
from ehrmind.runs import Run
from ehrmind.stages.digests import differing_files, digests, refuse_changed
from ehrmind.types import InputError
from ehrmind.world import current

VERSIONS = ("ehrmind", "torch", "transformers", "peft", "tokenizers", "numpy", "polars", "es-aces", "openai")
NO_ADVICE = (
    "_from_model_config",
    "transformers_version",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
)


def pin_run(run: Run, recipe: Recipe, base: Path, began: date | None) -> Recipe:
    """Records the provenance, and returns the recipe with the day that the run is pinned to: the model's, else `began`, else today."""
    found = current().from_first(
        lambda: record_provenance(run, provenance(run, recipe, base), recipe.model.date or began)
    )
    return dated(recipe, date.fromisoformat(found))


def provenance(run: Run, recipe: Recipe, base: Path) -> dict[str, Any]:
    """Facts that a figure of this run depends on. They can be shared: no absolute path, no record text."""
    return {
        "recipe_digest": recipe_digest(recipe),
        "seed": recipe.seed,
        "data": {key: value for key, value in (run.done("data") or {}).items() if key != "seconds"},
        "model": {
            "name": _shown(recipe.model, base),
            "revision": _revision(recipe.model, base),
            "sha256": digests(base),
            **advice_of(base),
            **_dropped(base),
        },
        "versions": versions(),
        "platform": platform.machine(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide figures; "absent" for one not installed."""
    found = {"python": sys.version.split()[0]}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


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


def _dropped(base: Path) -> dict[str, Any]:
    """The dropout of the model's config, which is off here."""
    from ehrmind.engines.local.dropout import dropout_of

    return {"dropout_set_to_0": found} if (found := dropout_of(base)) else {}


def _shown(model: Model, base: Path) -> str:
    return base.name if model.name is None or Path(model.name).is_dir() else model.name


def _revision(model: Model, base: Path) -> str | None:
    """A hub model's commit: the hub's cache names its folders by it."""
    return (
        base.name
        if model.name is not None and not Path(model.name).is_dir() and base.parent.name == "snapshots"
        else model.revision
    )


def digests_of(run: Run, arm: str) -> Mapping[str, str]:
    """Reads the digests of an arm's model from the run; {} if it has none yet."""
    if arm == "base":
        return ((run.read_json("provenance.json") or {}).get("model") or {}).get("sha256") or {}
    found: Mapping[str, str] = (run.done("warmup" if arm == "sft" else f"rlvr-{arm}") or {}).get("model_sha256", {})
    return found


def day_of(run: Run) -> date | None:
    """The day that the run's prompts are written for."""
    day = (run.read_json("provenance.json") or {}).get("date")
    return None if day is None else date.fromisoformat(day)


def dated(recipe: Recipe, day: date | None) -> Recipe:
    """The recipe with the day that its run pinned."""
    return recipe if day is None else recipe.model_copy(update={"model": recipe.model.model_copy(update={"date": day})})
