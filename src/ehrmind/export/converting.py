"""Conversion of a model file into a model directory. Nothing is sent anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ehrmind.export.model import refuse_used
from ehrmind.files import written_whole


def convert_model(file: Path, out: Path, *, dtype: str, say: Callable[[str], None]) -> Path:
    """Writes the directory, whole or not at all. Raises InputError."""
    from ehrmind.engines.local.saving.converting import convert_gguf

    refuse_used(out)
    with written_whole(out) as partial:
        convert_gguf(file, partial, out.name, dtype, say)
    return out
