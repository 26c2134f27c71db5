"""Export of a trained model: an ordinary model directory with a card, and an upload to a hub if a
person confirms it.

`ehrmind.json` in the directory says what the model was trained on. So a model of restricted data
stays restricted wherever it is copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ehrmind import __version__
from ehrmind.config import Recipe
from ehrmind.config.endpoint import names_of
from ehrmind.files import clear_leftovers, write_json, write_text, written_whole
from ehrmind.runs import Run
from ehrmind.runs.records import Provenance
from ehrmind.runs.records.exported import ExportedModel
from ehrmind.stages.digests import digests
from ehrmind.stages.models import ABOUT, Chosen, about_model, choose, is_marked
from ehrmind.types import Case, InputError

LEARNED_FROM = ("train", "tuning")  # tuning selects among checkpoints


def described(where: Path, arm: str | None = None) -> tuple[Chosen, ExportedModel]:
    """Returns the model and its ehrmind.json. A directory that no run left keeps what it said
    before; if it said nothing, nobody knows what it was trained on."""
    from ehrmind.engines.local.saving.hf_export import is_adapter

    chosen = Chosen(where, where.resolve().name) if is_adapter(where) else choose(where, arm)
    about = ExportedModel(
        ehrmind=__version__, name=chosen.name, arm=chosen.arm, restricted=None, asks=dict(chosen.asks)
    )
    if chosen.run is None or chosen.recipe is None:
        said = about_model(where)
        known = {} if said is None else {name: getattr(said, name) for name in said.model_fields_set}
        return chosen, about.model_copy(update=known)
    provenance = chosen.run.read_record("provenance.json", Provenance)
    cases = {split: _cases(chosen.run, split) for split in (*LEARNED_FROM, "held_out")}
    why = _why_restricted(chosen, cases)
    found = {
        "restricted": bool(why),
        "restricted_because": tuple(why),
        "families": tuple(sorted({case.family for of in cases.values() for case in of})),
        "trained_on": () if chosen.arm == "base" else tuple(_names(chosen.recipe)),
        "base_model": None if provenance is None else provenance.model,
        "recipe_digest": None if provenance is None else provenance.recipe_digest,
        "data_digest": None if provenance is None else provenance.data.digest,
        "histories": {split: found for split, of in cases.items() if (found := _data_sets(of))},
    }
    return chosen, about.model_copy(update=found)


def _names(recipe: Recipe) -> list[str]:
    return sorted({name for split in LEARNED_FROM for name in names_of(getattr(recipe.data, split))})


def _cases(run: Run, split: str) -> list[Case]:
    return run.load_split(split) if run.has_cases(split) else []


def _data_sets(cases: Sequence[Case]) -> dict[str, str]:
    """Data sets of coded histories with their digests. No file of labels names them."""
    return {case.provenance["dataset"]: case.provenance["digest"] for case in cases if "dataset" in case.provenance}


def _why_restricted(chosen: Chosen, cases: Mapping[str, Sequence[Case]]) -> list[str]:
    """Places of the recipe whose restriction the weights inherit."""
    assert chosen.recipe is not None
    why = []
    name = chosen.recipe.model.name
    if name is not None and Path(name).is_dir() and (about_model(Path(name)) or ExportedModel()).restricted:
        why.append("the base model")
    return why + (restricted_splits(chosen.recipe, cases) if chosen.arm != "base" else [])


def restricted_splits(recipe: Recipe, cases: Mapping[str, Sequence[Case]]) -> list[str]:
    """Places of the recipe with training or tuning data that must not leave this machine."""
    return [
        f"data.{split}"
        for split in LEARNED_FROM
        if getattr(recipe.data, split).is_restricted or any(map(is_marked, cases[split]))
    ]


def export_model(chosen: Chosen, about: ExportedModel, out: Path, *, card: str, merge: bool = False) -> Path:
    """Writes the directory, whole or not at all, readable by its owner alone. Raises InputError."""
    from ehrmind.engines.local.saving.exporting import copy_proven, merge_adapter
    from ehrmind.engines.local.saving.hf_export import is_adapter, say_how_to_answer

    refuse_used(out)
    with written_whole(out, private=True) as partial:
        if is_adapter(chosen.folder) and merge:
            merge_adapter(chosen.folder, partial, out.name)
        else:
            copy_proven(chosen.folder, partial, leave_out=(ABOUT,))
        stop = "" if is_adapter(partial) else say_how_to_answer(partial, chosen.asks)
        write_text(partial / "README.md", card)
        last = {**({"stop": stop} if stop else {}), "sha256": digests(partial)}
        write_json(partial / ABOUT, about.model_copy(update=last).to_dict())
    return out


def refuse_used(out: Path) -> None:
    """Refuses a folder that is used. Removes what killed commands left half-written next to it.
    Raises InputError."""
    clear_leftovers(out.parent)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already; name a new folder.")


def refuse_push(folder: Path) -> ExportedModel:
    """Returns the directory's ehrmind.json if it may leave this machine. Raises InputError if it is
    restricted, unknown or changed, or if this machine is offline."""
    about = about_model(folder)
    if about is None or about.restricted is None:
        raise InputError(
            f"{folder} does not say what it was trained on, so it stays here; export it from its run by `ehrmind export"
            " model`."
        )
    if about.restricted:
        why = ", ".join(about.restricted_because or ["its data"])
        raise InputError(f"{folder} was trained on restricted data ({why}), so it never leaves this machine.")
    if about.sha256 != digests(folder):
        raise InputError(f"The model in {folder} is not the one that was exported there; export it again.")
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise InputError(
            "This machine is set to stay offline (HF_HUB_OFFLINE), so nothing is sent; unset it where sending is"
            " allowed."
        )
    return about


def push_model(folder: Path, repository: str, *, public: bool = False) -> str:
    """Sends the directory to a hub's repository, private unless `public`, and returns the address.
    The caller has asked the person. Raises InputError."""
    from huggingface_hub import HfApi, get_token

    from ehrmind.engines.local.saving.hf_export import KEPT
    from ehrmind.hub import clear_errors, endpoint

    refuse_push(folder)
    if get_token() is None:
        raise InputError("The hub does not know who you are; log in with `hf auth login`.")
    api = HfApi(endpoint=endpoint())
    with clear_errors(f"The repository '{repository}'"):
        api.create_repo(repository, private=not public, exist_ok=True)
        private = api.model_info(repository).private
    if not public and not private:  # it was there before
        raise InputError(f"The repository '{repository}' is public; say --public where that is meant, or name another.")
    with clear_errors(f"The repository '{repository}'"):
        patterns = ["README.md", *(f"*{suffix}" for suffix in sorted(KEPT))]
        found = api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=patterns, commit_message="Exported by ehrmind"
        )
    return str(found.commit_url)
