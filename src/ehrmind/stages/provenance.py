"""Provenance of a run: the versions, data, model and day that decide its figures. They are recorded
once and checked on resume."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from datetime import date
from importlib import metadata
from pathlib import Path

from pydantic import JsonValue

from ehrmind.config import Model, Recipe, recipe_digest
from ehrmind.hub import COMMIT
from ehrmind.runs import Run
from ehrmind.runs.records import DataFacts, ModelProvenance, Provenance, RlvrMark, WarmupMark
from ehrmind.runs.start import is_bare
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


def pin_run(run: Run, recipe: Recipe, base: Path, began: date | None, wanted: tuple[str, ...]) -> Recipe:
    """Records the provenance and the stages that are asked for, and returns the recipe with the day
    that the run is pinned to."""
    day = current().from_first(lambda: _record(run, recipe, base, began, wanted))
    return dated(recipe, date.fromisoformat(day))


def _record(run: Run, recipe: Recipe, base: Path, began: date | None, wanted: tuple[str, ...]) -> str:
    """Writes provenance.json and returns the run's day: as stored, else the model's, else `began`,
    else today.

    Refuses to resume with another model than the one the run began with: a path in the recipe does
    not say what lies there.
    """
    stored = run.read_record("provenance.json", Provenance)
    day = stored.date if stored is not None else (recipe.model.date or began or date.today()).isoformat()
    found = provenance(run, recipe, base, day)
    if stored is not None and (changed := differing_files(stored.model.sha256, found.model.sha256)):
        raise InputError(
            f"The run began with another model than the one now in {found.model.name} ({', '.join(changed)}); "
            "put that back, or choose another --out."
        )
    run.write_record("provenance.json", found.model_copy(update={"stages": wanted}))
    return day


def provenance(run: Run, recipe: Recipe, base: Path, day: str) -> Provenance:
    """Facts that a figure of this run depends on. They can be shared: no absolute path, no record
    text."""
    from ehrmind.engines.local.opening.config import dropout_of

    data = {name: found for name, found in (run.done("data") or {}).items() if name != "seconds"}
    advice, dropped = advice_of(base), dropout_of(base)
    model = {
        "name": _shown(recipe.model, base),
        "revision": _revision(recipe.model, base),
        "sha256": digests(base),
        **({"generation_advice": advice} if advice else {}),
        **({"dropout_set_to_0": dropped} if dropped else {}),
    }
    return Provenance(
        recipe_digest=recipe_digest(recipe),
        seed=recipe.seed,
        data=DataFacts.from_dict(data, str(run.path / "stages/data.json")),
        model=ModelProvenance(**model),
        versions=versions(),
        platform=platform.machine(),
        date=day,
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide figures; "absent" for one not
    installed."""
    found = {"python": sys.version.split()[0]}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def refuse_changed_arms(run: Run, folders: Mapping[str, Path]) -> None:
    """Refuses to resume with models other than those that the run trained."""
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


def advice_of(base: Path) -> dict[str, JsonValue]:
    """Reads the sampling advice of the model's makers. The run does not follow it, and an export
    does not carry it."""
    file = base / "generation_config.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    left_out = {name: value for name, value in said.items() if not name.endswith("_token_id") and name not in NO_ADVICE}
    return left_out if left_out.keys() - {"do_sample"} or left_out.get("do_sample") else {}


def _shown(model: Model, base: Path) -> str:
    return base.name if model.name is None or Path(model.name).is_dir() else model.name


def _revision(model: Model, base: Path) -> str | None:
    is_on_hub = model.name is not None and not Path(model.name).is_dir()
    return (is_on_hub and commit_at(base)) or model.revision


def commit_at(base: Path) -> str | None:
    """A hub model's commit, by which the hub's cache names its folders; None for another folder."""
    return base.name if base.parent.name == "snapshots" and COMMIT.fullmatch(base.name) else None


def commit_of(run: Run) -> str | None:
    """The commit of the hub model that a run, or the first of its seeds, began with."""
    for part in (run, *run.seeds()):
        found = part.read_record("provenance.json", Provenance)
        if found is not None and COMMIT.fullmatch(found.model.revision or ""):
            return found.model.revision
    return None


def at_commit(recipe: Recipe, commit: str | None) -> Recipe:
    """Sets the commit of the recipe's model; None changes nothing."""
    return recipe if commit is None else _with_model(recipe, revision=commit)


def digests_of(run: Run, arm: str) -> Mapping[str, str]:
    """Digests of an arm's model as the run recorded them; {} if it has no such model yet."""
    if arm == "base":
        found = run.read_record("provenance.json", Provenance)
        return {} if found is None else found.model.sha256
    mark = run.mark("warmup", WarmupMark) if arm == "sft" else run.mark(f"rlvr-{arm}", RlvrMark)
    return {} if mark is None else mark.model_sha256


def day_of(run: Run) -> date | None:
    """The day that the run's prompts are written for."""
    found = run.read_record("provenance.json", Provenance)
    return None if found is None else date.fromisoformat(found.date)


def stages_of(run: Run) -> tuple[str, ...] | None:
    """The stages that the run's last command asked for: empty in a folder of 0.1.0, None if the
    command ended before the model was opened."""
    parts = [part for part in (*run.seeds(), run) if not is_bare(part.path)]
    found = [part.read_record("provenance.json", Provenance) for part in parts]
    return next((record.stages for record in found if record is not None), None)


def dated(recipe: Recipe, day: date | None) -> Recipe:
    """Sets the recipe's day; None changes nothing."""
    return recipe if day is None else _with_model(recipe, date=day)


def _with_model(recipe: Recipe, **changes: date | str) -> Recipe:
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=changes)})
