"""Command line: makes a model directory of a model file."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ehrmind.cli.offline import stay_offline


class Dtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE.gguf", help="A model as one GGUF file.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The model directory to write.", show_default=False)],
    dtype: Annotated[
        Dtype, typer.Option(help="Type of the weights: float32 keeps every number, bfloat16 is half as large.")
    ] = Dtype.float32,
) -> None:
    """Convert a GGUF file into a model directory: dequantised, in safetensors, with its tokenizer
    and chat template."""
    stay_offline(online=False)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' bars would fill a log
    from ehrmind.export.converting import convert_model

    written = convert_model(file, out, dtype=dtype.value, say=lambda line: typer.echo(line, err=True))
    typer.echo(f"wrote {written}; use it as model.name")
