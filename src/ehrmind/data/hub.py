"""Fetches the files of a hub data set. Goes online only if allowed; the commit is pinned and
recorded.

A file belongs to a split if its name or a folder of it says so: `train`; `test` for held_out;
`validation`, `valid`, `val`, `dev` or `tuning` for tuning. Parquet is preferred to CSV. Several
files must be all shards of one set (`…-00000-of-00002`); anything else is refused, not guessed.
Left out on purpose: writing tokens (the hub's client uses an existing login), data sets without
owner.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ehrmind.hub import COMMIT, bar_with_an_end, clear_errors, endpoint
from ehrmind.types import InputError, Split

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_FILES = (".csv", ".tsv", ".gz", ".parquet", ".json", ".jsonl", ".ndjson", ".xlsx", ".zip", ".txt")
_ENDINGS = ((".parquet",), (".csv", ".csv.gz"))
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(.*)")
_SPLIT_WORDS: dict[Split, str] = {"train": "train", "tuning": "validation|valid|val|dev|tuning", "held_out": "test"}


@dataclass(frozen=True, slots=True)
class HubFile:
    """File of a data set in the local cache. `name` is its path inside the data set."""

    path: Path
    name: str
    hub: str
    commit: str


def is_hub_id(text: str) -> bool:
    """Tells whether a text is `owner/name`, and not a data file in a folder."""
    return bool(_ID.fullmatch(text)) and not text.endswith(
        (".csv", ".tsv", ".gz", ".parquet", ".json", ".jsonl", ".ndjson", ".xlsx", ".zip", ".txt")
    )


def fetch(hub: str, *, split: Split, online: bool, revision: str | None = None) -> list[HubFile]:
    """Fetches the files of one split: downloads them if `online`, otherwise uses the local cache.

    Raises InputError naming the data set, and the file if there is one. An interrupted download
    leaves nothing behind.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import constants
    except ImportError:
        raise InputError(f"There is no file '{hub}'; to read a hub data set, `pip install huggingface_hub`.") from None
    if online and not constants.is_offline_mode():
        return _download(hub, split, revision)
    hint = (
        "HF_HUB_OFFLINE is set"
        if online
        else "going online is not allowed: set data.online=true (--online) to download it"
    )
    return _from_cache(hub, split, revision, Path(constants.HF_HUB_CACHE), hint)


def _download(hub: str, split: Split, revision: str | None) -> list[HubFile]:
    from huggingface_hub import HfApi, hf_hub_download

    asked = f"hub data set '{hub}'" + (f" at revision '{revision}'" if revision else "")
    with clear_errors(f"The {asked}"):
        api = HfApi(endpoint=endpoint())
        about = api.dataset_info(hub, revision=revision or "main")
        commit = about.sha or ""
        # Mirrors may leave the list of files out of the description.
        names = [file.rfilename for file in about.siblings or []] or api.list_repo_files(
            hub, repo_type="dataset", revision=commit
        )
    if not COMMIT.fullmatch(commit):
        raise InputError(f"The hub did not say which commit the {asked} is at; check HF_ENDPOINT.")
    files = []
    for name in _choose(names, split, f"The {asked}"):
        with clear_errors(f"The file '{name}' of the {asked}"):
            path = hf_hub_download(
                hub, name, repo_type="dataset", revision=commit, endpoint=endpoint(), tqdm_class=bar_with_an_end()
            )
        files.append(HubFile(Path(path), name, hub, commit))
    return files


def _from_cache(hub: str, split: Split, revision: str | None, cache: Path, hint: str) -> list[HubFile]:
    """Finds files of an earlier download.

    `refs/<name>` holds a commit, `snapshots/<commit>/` its files.
    """
    folder = cache / f"datasets--{hub.replace('/', '--')}"
    snapshots = {path.name: path for path in folder.glob("snapshots/*") if COMMIT.fullmatch(path.name)}
    if not snapshots:
        raise InputError(f"There is no file '{hub}', and no such data set in the hub's local cache ({hint}).")
    ref = folder / "refs" / (revision or "main")
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    if commit is None and len(snapshots) == 1:
        commit = next(iter(snapshots))
    if commit not in snapshots:
        known = ", ".join(sorted(snapshots))
        raise InputError(f"The hub's local cache has '{hub}' at {known}; name one of them as revision ({hint}).")
    names = [path.relative_to(snapshots[commit]).as_posix() for path in snapshots[commit].rglob("*") if path.is_file()]
    chosen = _choose(names, split, f"The local copy of the hub data set '{hub}' ({hint})")
    for name in chosen:  # links must stay inside the cache
        if not (snapshots[commit] / name).resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"The hub's local cache has '{name}' of '{hub}' as a link to a place outside it; download the data set"
                " again."
            )
    return [HubFile(snapshots[commit] / name, name, hub, commit) for name in chosen]


def _choose(names: Iterable[str], split: Split, what: str) -> list[str]:
    """Chooses the data files of a split, in order.

    Raises InputError if there is none, if a shard is missing, or if several files are possible.
    """
    word = re.compile(rf"(^|[/_.-])({_SPLIT_WORDS[split]})([/_.-]|$)", re.IGNORECASE)
    fitting = sorted(name for name in names if word.search(name))
    for endings in _ENDINGS:
        chosen = [name for name in fitting if name.endswith(endings)]
        if not chosen:
            continue
        shards = [match.groups() for name in chosen if (match := _SHARD.fullmatch(name))]
        one_set = len(shards) == len(chosen) and len({(head, total, tail) for head, _, total, tail in shards}) == 1
        if len(chosen) > 1 and not one_set:
            raise InputError(
                f"{what} has several files for {split} ({', '.join(chosen)}); download the one you mean and give its"
                " path."
            )
        if one_set and len(chosen) != int(shards[0][2]):
            raise InputError(f"{what} has {len(chosen)} of the {int(shards[0][2])} shards of {shards[0][0]}.")
        return chosen
    wanted = _SPLIT_WORDS[split].replace("|", ", ")
    raise InputError(f"{what} has no parquet or CSV file for {split}: none has {wanted} in its name.")
