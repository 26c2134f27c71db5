"""TREC topics, the patients: XML as NIST publishes it (2021, 2022; 2023's templates of fields), and `queries.jsonl`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ehrmind.sources.cases import FileRead
from ehrmind.sources.files import read_bytes, read_lines
from ehrmind.sources.trec.xml import parse_xml
from ehrmind.types import InputError


@dataclass(frozen=True, slots=True)
class Topic:
    """One patient's description. `id` is the file's own: a number in XML, `trec-20211` in queries.jsonl."""

    id: str
    text: str


def read_topics(path: Path) -> tuple[dict[str, Topic], FileRead]:
    """Topics by id. Raises InputError naming the file and the topic or row that does not fit."""
    plain = path.name.removesuffix(".gz")
    if plain.endswith(".xml"):
        topics, sha256 = _from_xml(path)
    elif plain.endswith(".jsonl"):
        topics, sha256 = _from_jsonl(path)
    else:
        raise InputError(f"{path} has an ending that is not known here: give topics as .xml or .jsonl, or one of them with .gz.")
    if not topics:
        raise InputError(f"{path} holds no topic.")
    by_id: dict[str, Topic] = {}
    for number, topic in enumerate(topics, start=1):
        if not topic.text:
            raise InputError(f"{path}, topic {number}: no text.")
        if by_id.setdefault(topic.id, topic) is not topic:
            raise InputError(f"{path}, topic {number}: the id '{topic.id}' is used before; ids must be unique.")
    return by_id, FileRead(path.name, sha256, len(topics))


def _from_xml(path: Path) -> tuple[list[Topic], str]:
    content, sha256 = read_bytes(path)
    topics = []
    for number, element in enumerate(parse_xml(content, str(path)).iter("topic"), start=1):
        name = (element.get("number") or "").strip()
        if not name:
            raise InputError(f"{path}, topic {number}: no 'number' attribute.")
        fields = [(field.get("name") or "", " ".join("".join(field.itertext()).split())) for field in element.iter("field")]
        if fields:
            stated = [f"{field}: {value}" for field, value in fields if value]
            template = (element.get("template") or "").strip()
            text = "\n".join([f"{template}"] * bool(template and stated) + stated)
        else:
            text = "".join(element.itertext()).strip()
        topics.append(Topic(name, text))
    return topics, sha256


def _from_jsonl(path: Path) -> tuple[list[Topic], str]:
    lines, sha256 = read_lines(path)
    topics = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"{path}, row {number}: not valid JSON.") from None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not isinstance(row.get("_id"), str) or not row["_id"]:
            raise InputError(f"{path}, row {number}: a topic needs the texts '_id' and 'text'.")
        topics.append(Topic(row["_id"], row["text"].strip()))
    return topics, sha256
