"""Reads the header of a GGUF file: what it says about a model, and the table of its tensors.

It comes before any library reads the file. Every count is held against the size of the file, so a
damaged or cut-off file ends in one sentence. No tensor is read.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehrmind.system import refuse_no_file
from ehrmind.types import InputError

MAGIC, VERSIONS = b"GGUF", (2, 3)
STRING, ARRAY = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
MOST_DIMENSIONS, ALIGNMENT = 8, 32


@dataclass(frozen=True)
class GgufHeader:
    """`fields` has numbers and texts; an array is given as its length. `tensors` has the count of
    numbers of each tensor, `kinds` how many tensors are stored in which type.
    """

    fields: Mapping[str, Any]
    tensors: Mapping[str, int]
    kinds: Mapping[str, int]

    @property
    def architecture(self) -> str:
        return str(self.fields["general.architecture"])

    @property
    def numbers(self) -> int:
        return sum(self.tensors.values())

    @property
    def quantisation(self) -> str:
        """The file's own name of its type, such as Q4_1, or the most frequent type of a tensor."""
        from gguf import LlamaFileType

        said = self.fields.get("general.file_type")
        named = next((kind.name for kind in LlamaFileType if kind.value == said), "")
        return named.removeprefix("MOSTLY_").removeprefix("ALL_") or max(self.kinds, key=lambda kind: self.kinds[kind])


def read_header(file: Path) -> GgufHeader:
    """Reads and checks the header. Raises InputError if the file is not a whole GGUF file."""
    refuse_no_file(file)
    with file.open("rb") as opened:
        if opened.read(4) != MAGIC:
            raise InputError(
                f"{file.name} is no GGUF file: it does not begin with the letters GGUF; name a model's .gguf file."
            )
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return _header(_Reader(content), file)
            except (struct.error, UnicodeDecodeError, OverflowError, MemoryError) as error:
                raise damaged(file, f"its header cannot be read, {type(error).__name__}") from None


def damaged(file: Path, why: str) -> InputError:
    return InputError(f"{file.name} is cut off or damaged ({why}); get the file again.")


class _Reader:
    """Reads values one after the other. Raises struct.error at the end of the file."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.place = content, 4

    def numbers(self, form: str, count: int = 1) -> tuple[Any, ...]:
        if count > len(self.content):
            raise struct.error
        found = struct.unpack_from(f"<{count}{form}", self.content, self.place)
        self.place += struct.calcsize(f"<{count}{form}")
        return found

    def number(self, form: str) -> Any:
        return self.numbers(form)[0]

    def skip_string(self) -> bytes:
        size = self.number("Q")
        found = self.content[self.place : self.place + size]
        if len(found) < size:
            raise struct.error
        self.place += size
        return found

    def value(self) -> Any:
        kind = self.number("I")
        if kind == STRING:
            return self.skip_string().decode()
        if kind != ARRAY:
            return self.number(_form(kind))
        kind, count = self.numbers("I")[0], self.number("Q")
        if kind == STRING:
            for _ in range(count):
                self.skip_string()
        else:
            self.numbers(_form(kind), count)
        return count


def _form(kind: int) -> str:
    if kind not in NUMBERS:
        raise struct.error
    return NUMBERS[kind]


def _header(reader: _Reader, file: Path) -> GgufHeader:
    version = reader.number("I")
    if version not in VERSIONS:
        raise InputError(
            f"{file.name} is GGUF of version {version}, and versions 2 and 3 are read; get or make a newer file."
        )
    tensor_count, field_count = reader.numbers("Q", 2)
    fields = {}
    for _ in range(field_count):
        name = reader.skip_string().decode()
        fields[name] = reader.value()
    if not isinstance(fields.get("general.architecture"), str):
        raise damaged(file, "it names no general.architecture")
    if int(fields.get("split.count") or 1) > 1:
        raise InputError(
            f"{file.name} is one of {fields['split.count']} parts; join them (`llama-gguf-split --merge`) and name the "
            "whole file."
        )
    return _with_tensors(reader, file, fields, tensor_count)


def _with_tensors(reader: _Reader, file: Path, fields: Mapping[str, Any], count: int) -> GgufHeader:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    sizes = {kind.value: (kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType}
    tensors: dict[str, int] = {}
    kinds: Counter[str] = Counter()
    end = 0
    for _ in range(count):
        name = reader.skip_string().decode()
        dimensions = reader.number("I")
        if dimensions > MOST_DIMENSIONS or name in tensors:
            raise damaged(file, "its table of tensors is not right")
        shape = reader.numbers("Q", dimensions)
        kind, offset = reader.number("I"), reader.number("Q")
        if kind not in sizes:
            raise InputError(
                f"{file.name} stores {name[:80]} in type {kind}, which this version of gguf does not know; get a newer "
                "gguf, or the model in another type."
            )
        known, block, size = sizes[kind]
        tensors[name] = math.prod(shape)
        kinds[known] += 1
        end = max(end, offset + tensors[name] // block * size)
    alignment = fields.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise damaged(file, "its alignment is not right")
    begins = -(-reader.place // alignment) * alignment
    there = len(reader.content)
    if not tensors:
        raise InputError(f"{file.name} holds no tensors; name the model's file, not its vocabulary alone.")
    if begins + end > there:
        raise damaged(file, f"it has {there:,} bytes, and its header asks for {begins + end:,}")
    return GgufHeader(fields, tensors, dict(kinds))
