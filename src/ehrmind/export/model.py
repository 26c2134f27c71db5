"""A trained model out of its run folder: an ordinary model directory with a card, and, only when a person says so, onto a hub.

What it was trained on travels inside the directory (`ehrmind.json`): a model of restricted data is restricted wherever it is copied to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ehrmind import __version__
from ehrmind.config import Recipe
from ehrmind.config.endpoint import names_of
from ehrmind.files import clear_leftovers, write_json, write_text, written_whole
from ehrmind.runs import Run
from ehrmind.stages.models import ABOUT, Chosen, about_model, choose, digests, is_marked
from ehrmind.types import Case, InputError

LEARNED_FROM = ("train", "tuning")  # tuning selects among checkpoints


def described(where: Path, arm: str | None = None) -> tuple[Chosen, dict[str, Any]]:
    """(the model, what `ehrmind.json` says of it). Of a directory that no run left here it is what it said before; where it said nothing,
    nobody knows what it was trained on."""
    from ehrmind.engines.local.ordinary import is_adapter

    if is_adapter(where):
        chosen = Chosen(where, where.resolve().name)
        return chosen, {**_about(chosen), **about_model(where)}
    chosen = choose(where, arm)
    if chosen.run is None or chosen.recipe is None:
        return chosen, {**_about(chosen), **about_model(where)}
    provenance = _provenance(chosen.run)
    cases = {split: _cases(chosen.run, split) for split in (*LEARNED_FROM, "held_out")}
    why = _why_restricted(chosen, cases)
    found = {
        "restricted": bool(why),
        "restricted_because": why,
        "families": sorted({case.family for of in cases.values() for case in of}),
        "trained_on": [] if chosen.arm == "base" else _names(chosen.recipe),
        "base_model": provenance.get("model", {}),
        "recipe_digest": provenance.get("recipe_digest"),
        "data_digest": provenance.get("data", {}).get("digest"),
        "histories": {split: found for split, of in cases.items() if (found := _data_sets(of))},
        "asks": dict(chosen.asks),
    }
    return chosen, {**_about(chosen), **found}


def _about(chosen: Chosen) -> dict[str, Any]:
    return {
        "ehrmind": __version__,
        "name": chosen.name,
        "arm": chosen.arm,
        "restricted": None,
        "asks": dict(chosen.asks),
    }


def _provenance(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.read_json("provenance.json") or {}
    return found


def _names(recipe: Recipe) -> list[str]:
    return sorted({name for split in LEARNED_FROM for name in names_of(getattr(recipe.data, split))})


def _cases(run: Run, split: str) -> list[Case]:
    return run.load_split(split) if run.has_cases(split) else []


def _data_sets(cases: Sequence[Case]) -> dict[str, str]:
    """The data sets of coded histories with their digests, which no file of labels names."""
    return {case.provenance["dataset"]: case.provenance["digest"] for case in cases if "dataset" in case.provenance}


def _why_restricted(chosen: Chosen, cases: Mapping[str, Sequence[Case]]) -> list[str]:
    """The places of the recipe whose mark the weights carry."""
    assert chosen.recipe is not None
    why = []
    name = chosen.recipe.model.name
    if name is not None and Path(name).is_dir() and about_model(Path(name)).get("restricted"):
        why.append("the base model")
    return why + (restricted_splits(chosen.recipe, cases) if chosen.arm != "base" else [])


def restricted_splits(recipe: Recipe, cases: Mapping[str, Sequence[Case]]) -> list[str]:
    """Of what is learned from, the places of the recipe whose data never leave this machine."""
    return [
        f"data.{split}"
        for split in LEARNED_FROM
        if getattr(recipe.data, split).is_restricted or any(map(is_marked, cases[split]))
    ]


def export_model(chosen: Chosen, about: Mapping[str, Any], out: Path, *, card: str, merge: bool = False) -> Path:
    """Write the directory, whole or not at all; its owner alone can read it. Raises InputError."""
    from ehrmind.engines.local.exporting import copy_proven, merge_adapter
    from ehrmind.engines.local.ordinary import is_adapter, say_how_to_answer

    refuse_used(out)
    with written_whole(out, private=True) as partial:
        if is_adapter(chosen.folder) and merge:
            merge_adapter(chosen.folder, partial, out.name)
        else:
            copy_proven(chosen.folder, partial, leave_out=(ABOUT,))
        stop = "" if is_adapter(partial) else say_how_to_answer(partial, chosen.asks)
        write_text(partial / "README.md", card)
        write_json(partial / ABOUT, {**about, **({"stop": stop} if stop else {}), "sha256": digests(partial)})
    return out


def refuse_used(out: Path) -> None:
    """Raises InputError. What killed commands left half-written beside it goes."""
    clear_leftovers(out.parent)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already; name a new folder.")


def refuse_push(folder: Path) -> dict[str, Any]:
    """What the directory says of itself, where it may leave this machine. Raises InputError: it is restricted, unknown or changed, or this
    machine is offline."""
    about = about_model(folder)
    if not about or about.get("restricted") is None:
        raise InputError(
            f"{folder} does not say what it was trained on, so it stays here; export it from its run by `ehrmind export model`."
        )
    if about["restricted"]:
        why = ", ".join(about.get("restricted_because") or ["its data"])
        raise InputError(f"{folder} was trained on restricted data ({why}), so it never leaves this machine.")
    if about.get("sha256") != digests(folder):
        raise InputError(f"The model in {folder} is not the one that was exported there; export it again.")
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise InputError(
            "This machine is set to stay offline (HF_HUB_OFFLINE), so nothing is sent; unset it where sending is allowed."
        )
    return about


def push_model(folder: Path, repository: str, *, public: bool = False) -> str:
    """Send the directory to a hub's repository, private unless told otherwise; the address. The caller has asked the person. Raises
    InputError."""
    from huggingface_hub import HfApi, get_token

    from ehrmind.engines.local.ordinary import KEPT
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
