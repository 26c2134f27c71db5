"""Reads TREC topics, which describe the patients.

Formats are NIST's XML (2021, 2022, and 2023's templates with fields), and `queries.jsonl`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ehrmind.data.cases import FileRead
from ehrmind.data.files import read_bytes, read_lines
from ehrmind.data.trec.keys import TopicKey, topic_key, year_named
from ehrmind.data.trec.text import with_line_ends
from ehrmind.data.trec.xml import parse_xml
from ehrmind.types import InputError


@dataclass(frozen=True, slots=True)
class Topic:
    """Description of one patient. `id` is a number in XML, `trec-20211` in queries.jsonl.

    `year` is stated by the id or by the file's title; otherwise it is "".
    """

    id: str
    text: str
    year: str = ""


class TopicIndex:
    """Index of topics by key, because other files may spell their ids in another way."""

    def __init__(self, topics: Mapping[str, Topic], *, any_year: bool = False) -> None:
        self.any_year = any_year
        self.by_number: dict[tuple[str, str], list[tuple[TopicKey, Topic]]] = defaultdict(list)
        for topic in topics.values():
            key = topic_key(topic.id)
            self.by_number[key.name, key.number].append((key, topic))

    def find(self, name: str, where: str) -> Topic:
        """Returns the topic with this id. `where` is the place in a message.

        NIST's XML numbers its topics 1, 2 and so on; ids of queries.jsonl have the year in front.
        """
        key = topic_key(name)
        found = self.by_number.get((key.name, key.number), [])
        if exact := [topic for other, topic in found if other == key]:
            return exact[0]
        if not self.any_year:
            found = [(other, topic) for other, topic in found if "" in (key.year, other.year)]
        if len(found) > 1:
            raise InputError(
                f"{where}: its topic is {len(found)} topics of the topics file, of different years; write the year"
                " with it."
            )
        if not found:
            raise InputError(f"{where}: its topic is not in the topics file; give the two files of one collection.")
        return found[0][1]


def read_topics(path: Path) -> tuple[dict[str, Topic], FileRead]:
    """Reads topics by id. Raises InputError naming the file and the wrong topic or row."""
    plain = path.name.lower().removesuffix(".gz")
    if plain.endswith(".xml"):
        topics, sha256 = _from_xml(path)
    elif plain.endswith((".jsonl", ".ndjson")):
        topics, sha256 = _from_jsonl(path)
    else:
        raise InputError(
            f"{path} has an ending that is not known here: give topics as .xml or .jsonl, or one of them with .gz."
        )
    if not topics:
        raise InputError(f"{path} holds no topic.")
    by_key: dict[TopicKey, Topic] = {}
    for number, topic in enumerate(topics, start=1):
        if not topic.text:
            raise InputError(f"{path}, topic {number}: no text.")
        if by_key.setdefault(topic_key(topic.id), topic) is not topic:
            raise InputError(f"{path}, topic {number}: its id is that of another topic before it; ids must be unique.")
    return {topic.id: topic for topic in topics}, FileRead(path.name, sha256, len(topics))


def _from_xml(path: Path) -> tuple[list[Topic], str]:
    content, sha256 = read_bytes(path)
    root = parse_xml(content, str(path))
    of_file = year_named(" ".join(root.attrib.values()))
    topics = []
    for number, element in enumerate(root.iter("topic"), start=1):
        name = (element.get("number") or "").strip()
        if not name:
            raise InputError(f"{path}, topic {number}: no 'number' attribute.")
        fields = [
            (field.get("name") or "", " ".join("".join(field.itertext()).split())) for field in element.iter("field")
        ]
        if fields:
            stated = [f"{field}: {value}" for field, value in fields if value]
            template = (element.get("template") or "").strip()
            text = "\n".join([f"{template}"] * bool(template and stated) + stated)
        else:
            text = "".join(element.itertext()).strip()
        topics.append(Topic(name, with_line_ends(text), topic_key(name).year or of_file))
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
        name = row.get("_id") if isinstance(row, dict) else None
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if (
            not isinstance(row, dict)
            or not isinstance(row.get("text"), str)
            or not isinstance(name, str)
            or not name.strip()
        ):
            raise InputError(f"{path}, row {number}: a topic needs the texts '_id' and 'text'.")
        topics.append(Topic(name, with_line_ends(row["text"]).strip(), topic_key(name).year))
    return topics, sha256
