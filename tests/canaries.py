"""Files of every family with a canary in every cell that holds text, and many ways to spoil them.

A canary is an invented word that no program writes by itself. Where a command says or stores one
outside of what is protected, it has quoted a record.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl

WORD = "zqxcanary"  # in every canary, whatever its form
TEXT = "Zqxcanary Jane Doe, 63, HIV positive; lives at 1 Main Street"
ID = "zqxcanary7"
NAMES = (TEXT, ID, "Zqxcanary", "zqxcanary_note", "patient zqxcanary")  # what a file without a header has for names

Rows = list[list[str]]


def holds(text: str) -> bool:
    return WORD in text.lower()


def as_csv(rows: Sequence[Sequence[str]], mark: str = ",") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=mark, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def spoilt_csv(rows: Rows) -> Iterator[tuple[str, bytes]]:
    """A table with a header in every way that people spoil one: (what was done, the file's
    content)."""
    header, body = rows[0], rows[1:]
    whole = as_csv(rows)
    yield "no header", as_csv(body)
    yield "names nobody knows", as_csv([[f"{NAMES[at % len(NAMES)]}{at}" for at in range(len(header))], *body])
    yield "one name for all", as_csv([[ID] * len(header), *body])
    yield "a name twice", as_csv([[*header[:-1], header[0]], *body])
    yield "semicolons in the rows alone", as_csv([header]) + as_csv(body, ";")
    yield "semicolons in the header alone", as_csv([header], ";") + as_csv(body)
    yield "Latin-1", whole.decode().replace("Doe", "D\u00f6e").encode("latin-1")
    yield "UTF-16 without a mark", whole.decode().encode("utf-16-le")
    yield "cut within a row", whole[: len(whole) - len(whole) // 7]
    yield "an open quote", whole + f'"{TEXT}\n'.encode()
    yield "a value more", as_csv([header, *body, [*body[-1], TEXT]])
    yield "a value less", as_csv([header, *body, body[-1][:-1]])
    yield "a zero byte", whole.replace(b"Jane", b"Ja\0ne", 1)
    yield "the first row again", as_csv([*rows, body[0]])
    yield "columns that slid to the right", as_csv([header, *([TEXT, *row[:-1]] for row in body)])
    yield "columns that slid to the left", as_csv([header, *([*row[1:], ID] for row in body)])
    yield "a text that is too long", as_csv([[*header, ID], *([*row, TEXT * 5000] for row in body)])
    for at, name in enumerate(header):
        without = [[*row[:at], *row[at + 1 :]] for row in rows]
        yield f"without {name}", as_csv(without)
        for kind, cell in (("a text", TEXT), ("an id", ID), ("a number and a text", f"12 {ID}"), ("nothing", "")):
            yield f"{kind} in {name}", as_csv([header, *([*row[:at], cell, *row[at + 1 :]] for row in body)])
        yield f"a text in the last {name}", as_csv([header, *body[:-1], [*body[-1][:at], TEXT, *body[-1][at + 1 :]]])


def spoilt_parquet(frame: pl.DataFrame) -> Iterator[tuple[str, bytes]]:
    """The same of a parquet file: (what was done, the file's content)."""

    def written(changed: pl.DataFrame) -> bytes:
        buffer = io.BytesIO()
        changed.write_parquet(buffer)
        return buffer.getvalue()

    whole = written(frame)
    yield "cut", whole[:-9]
    yield "a text", TEXT.encode() * 9
    yield "a column more", written(frame.with_columns(pl.lit(TEXT).alias(ID)))
    yield "a struct more", written(frame.with_columns(pl.struct(pl.lit(TEXT).alias(ID)).alias(TEXT)))
    for name in frame.columns:
        yield f"without {name}", written(frame.drop(name))
        for kind, column in (
            ("texts", pl.lit(TEXT)),
            ("ids", pl.lit(ID)),
            ("categories", pl.lit(TEXT).cast(pl.Enum([TEXT, ID]))),
            ("lists", pl.concat_list(pl.lit(TEXT))),
            ("structs", pl.struct(pl.lit(TEXT).alias(ID))),
            ("bytes", pl.lit(TEXT.encode())),
        ):
            yield f"{kind} in {name}", written(frame.with_columns(column.alias(name)))


def spoilt_lines(lines: Sequence[dict[str, object]]) -> Iterator[tuple[str, bytes]]:
    """The same of JSON lines: (what was done, the file's content)."""
    whole = "".join(json.dumps(line) + "\n" for line in lines).encode()
    yield "cut", whole[: len(whole) - len(whole) // 5]
    yield "an open text", whole + f'{{"_id": "{TEXT}\n'.encode()
    yield "a text", TEXT.encode()
    yield "a list", json.dumps([TEXT]).encode()
    yield "a key twice", f'{{"{ID}": "{TEXT}", "{ID}": 1}}\n'.encode()
    yield "Latin-1", whole.replace(b"Doe", b"D\xf6e")
    yield "a line twice", whole + whole
    for name in lines[0]:
        for kind, value in (
            ("a text", TEXT),
            ("an id", ID),
            ("a number", 7),
            ("a list", [TEXT, 7]),
            ("an object", {ID: TEXT}),
            ("nothing", None),
        ):
            yield f"{kind} in {name}", "".join(json.dumps({**line, name: value}) + "\n" for line in lines).encode()
        yield (
            f"without {name}",
            "".join(json.dumps({key: line[key] for key in line if key != name}) + "\n" for line in lines).encode(),
        )


def spoilt_xml(whole: bytes) -> Iterator[tuple[str, bytes]]:
    yield "cut", whole[: len(whole) - len(whole) // 5]
    yield "a text", TEXT.encode()
    yield "an open tag", whole.replace(b"</", f"<{ID}></".encode(), 1)
    yield "another root", f"<{ID}>{TEXT}</{ID}>".encode()
    yield "an entity", f'<!DOCTYPE a [<!ENTITY {ID} "{TEXT}">]><a>&{ID};</a>'.encode()
    yield "an entity nobody declares", whole.replace(b"</", f"&{ID};</".encode(), 1)
    yield "an encoding nobody knows", f'<?xml version="1.0" encoding="{ID}"?>'.encode() + whole
    yield "Latin-1", whole.replace(b"Doe", b"D\xf6e")


def spoilt_zip(
    members: dict[str, bytes], spoil: Callable[[bytes], Iterator[tuple[str, bytes]]]
) -> Iterator[tuple[str, bytes]]:
    def packed(content: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, raw in content.items():
                archive.writestr(name, raw)
        return buffer.getvalue()

    whole = packed(members)
    yield "cut", whole[:-30]
    yield "a flipped byte", whole[:45] + bytes([whole[45] ^ 255]) + whole[46:]
    yield "a text", TEXT.encode()
    first = next(iter(members))
    for how, content in spoil(members[first]):
        yield f"{how} in a member", packed({**members, first: content})


def open_files_with_a_canary(folder: Path, given: Sequence[Path]) -> list[str]:
    """Files and folders' files that hold a canary, are none of those given, and can be read by
    others than their owner."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path not in given and not any(path.is_relative_to(one) for one in given):
            private = path.stat().st_mode & 0o077 == 0 or any(
                above.stat().st_mode & 0o077 == 0
                for above in path.parents
                if above != folder.parent and above.is_relative_to(folder) and above != folder
            )
            if not private and holds(path.read_bytes().decode("utf-8", "replace")):
                found.append(str(path.relative_to(folder)))
    return found
