"""Finds the model that a recipe names: a directory, the hub's local cache, or the hub.

The hub is first asked for the commit and the files, so that a person can be asked before any
weights are downloaded. Left out on purpose: weights in subfolders, code, pickles, GGUF.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ehrmind.config import Model
from ehrmind.files import make_folder, write_text
from ehrmind.hub import COMMIT, bar_with_an_end, clear_errors, endpoint
from ehrmind.types import InputError

# A repository's other folders hold checkpoints and other formats of the same weights.
WANTED: dict[str, list[str]] = {
    "allow_patterns": ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"],
    "ignore_patterns": ["*/*.json", "*/*.safetensors", "*/*.model", "*/*.txt", "*/*.tiktoken", "consolidated*"],
}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
GB = 1e9


@dataclass(frozen=True, slots=True)
class HubModel:
    """A hub model at one commit: bytes by file, and the files that the cache lacks."""

    name: str
    revision: str | None
    commit: str
    sizes: Mapping[str, int]
    missing: Collection[str]
    cache: Path

    @property
    def to_download(self) -> int:
        """Bytes that a download brings."""
        return sum(self.sizes[name] for name in self.missing)

    def line(self) -> str:
        """Says in one line what a download brings and where it goes."""
        return (
            f"{self.name} at commit {self.commit}: {len(self.missing)} files, {_gb(self.to_download)}, to download "
            f"into {self.cache}, which has {_gb(_free(self.cache))} free"
        )


def locate(settings: Model, *, online: bool) -> Path:
    """Finds the directory of `model.name`: itself, or the hub's cache, downloaded if `online`.

    Raises InputError.
    """
    assert settings.name is not None
    if Path(settings.name).is_dir():
        return Path(settings.name)
    if not online:
        return _from_cache(settings)
    return _pinned(settings) or download(find_on_hub(settings))


def find_on_hub(settings: Model) -> HubModel:
    """Asks the hub for a model's commit and files; downloads none.

    If `revision` is a commit that is in the cache as a whole, nothing is asked. Raises InputError
    if the model cannot be used or does not fit on the disk.
    """
    assert settings.name is not None
    if (there := _pinned(settings)) is not None:
        return HubModel(settings.name, settings.revision, there.name, {}, (), _cache())
    found = _asked(settings.name, settings.revision)
    if found.to_download > (free := _free(found.cache)):
        raise InputError(
            f"The model '{found.name}' needs {_gb(found.to_download)} more, and {found.cache} has {_gb(free)} free; "
            "make room, or set HF_HOME to a larger disk."
        )
    return found


def download(found: HubModel) -> Path:
    """Downloads the files of a commit that the cache lacks, and returns the directory.

    The branch that was asked for then leads to this commit in the cache too. Raises InputError.
    """
    from huggingface_hub import snapshot_download

    asked: dict[str, Any] = {"revision": found.commit, "endpoint": endpoint(), **WANTED}
    with clear_errors(f"The model '{found.name}'"):
        folder = Path(snapshot_download(found.name, tqdm_class=bar_with_an_end(), **asked))
        if not COMMIT.fullmatch(branch := found.revision or "main"):
            ref = folder.parents[1] / "refs" / branch
            make_folder(ref.parent)
            write_text(ref, found.commit)
    return folder


def _pinned(settings: Model) -> Path | None:
    """The directory in the cache if nothing may be asked, or if nothing needs to be."""
    if _is_offline():
        return _from_cache(settings)
    try:
        return _from_cache(settings) if COMMIT.fullmatch(settings.revision or "") else None
    except InputError:
        return None


def _asked(name: str, revision: str | None) -> HubModel:
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.hf_api import RepoFile

    what = f"The model '{name}'" + (f" at revision '{revision}'" if revision else "")
    with clear_errors(what):
        try:
            api = HfApi(endpoint=endpoint())
            about = api.model_info(name, revision=revision)
        except HFValidationError:
            raise InputError(
                f"model.name={name} is no directory, nor the name of a model on the hub; check the path."
            ) from None
        commit = about.sha or ""
        if not COMMIT.fullmatch(commit):
            raise InputError(f"The hub names no commit of '{name}'; check HF_ENDPOINT.")
        tree = api.list_repo_tree(name, recursive=True, revision=commit)
        files = {file.path: file for file in tree if isinstance(file, RepoFile)}
        wanted = sorted(filter(_is_wanted, files))
        _refuse_unusable(what, name, files, wanted)
        if about.gated:  # the list is for everybody, the files are not
            get_hf_file_metadata(hf_hub_url(name, "config.json", revision=commit, endpoint=endpoint()))
    folder = _folder(name)
    blobs = {path: file.lfs.sha256 if file.lfs is not None else file.blob_id for path, file in files.items()}
    missing = [
        path
        for path in wanted
        if not (folder / "snapshots" / commit / path).exists() and not (folder / "blobs" / blobs[path]).exists()
    ]
    return HubModel(name, revision, commit, {path: files[path].size for path in wanted}, missing, _cache())


def _is_wanted(path: str) -> bool:
    """Whether `snapshot_download` takes a file under `WANTED`."""
    allowed, ignored = (any(fnmatch(path, one) for one in patterns) for patterns in WANTED.values())
    return allowed and not ignored


def _refuse_unusable(what: str, name: str, files: Collection[str], wanted: Collection[str]) -> None:
    """Refuses a repository without config and safetensors, from its list of files."""
    if "config.json" in wanted and any(path.endswith(".safetensors") for path in wanted):
        return
    ggufs, pickles = (sorted(path for path in files if path.endswith(kind)) for kind in (".gguf", _PICKLES))
    if ggufs:
        raise InputError(
            f"{what} holds GGUF files and no safetensors; download one with `hf download {name} {ggufs[0]}`, convert "
            "it with `ehrmind model convert FILE.gguf --out DIR`, and set model.name=DIR."
        )
    if "adapter_config.json" in files:
        raise InputError(f"{what} is an adapter alone; merge it into its base model, and name the merged directory.")
    if pickles:
        raise InputError(
            f"{what} holds pickled weights ({pickles[0]}) and no safetensors; name a model or a model.revision that "
            "has safetensors."
        )
    raise InputError(
        f"{what} holds no config.json with safetensors at its top; name a model that `transformers` opens."
    )


def _from_cache(settings: Model) -> Path:
    """The directory in the hub's cache that an earlier download has filled. Asks no one."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    assert settings.name is not None
    revision = settings.revision or _only_commit(settings.name)
    asked: dict[str, Any] = {"revision": revision, "local_files_only": True, **WANTED}
    allow = "HF_HUB_OFFLINE is set" if _is_offline() else "allow its download with data.online=true (--online)"
    try:
        return Path(snapshot_download(settings.name, **asked))
    except HFValidationError:
        raise InputError(
            f"model.name={settings.name} is no directory, nor the name of a model on the hub; check the path."
        ) from None
    except OSError as error:
        in_part = type(error).__name__ == "IncompleteSnapshotError"
        where = "only in part in the hub's cache" if in_part else "neither a directory nor in the hub's cache"
        raise InputError(f"model.name={settings.name} is {where} ({type(error).__name__}); {allow}.") from None


def _only_commit(name: str) -> str | None:
    """The commit of a model that the cache has at one commit alone, and without a branch."""
    folder = _folder(name)
    commits = [path.name for path in folder.glob("snapshots/*") if COMMIT.fullmatch(path.name)]
    return commits[0] if len(commits) == 1 and not (folder / "refs/main").exists() else None


def _folder(name: str) -> Path:
    return _cache() / f"models--{name.replace('/', '--')}"


def _is_offline() -> bool:
    from huggingface_hub import constants

    return constants.is_offline_mode()


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _free(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _gb(count: int) -> str:
    return f"{max(count / GB, 0.01):,.2f} GB"
