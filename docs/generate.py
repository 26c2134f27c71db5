"""Writes the pages and JSON Schemas that are made from the code: python docs/generate.py. A test
keeps them current.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import TypeAdapter

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.catalogue import CATEGORIES
from ehrmind.config import EhrFiles, History, Recipe
from ehrmind.data.ehr import read_ehr
from ehrmind.data.synthetic import synthetic_case
from ehrmind.data.synthetic.cohort import write_cohort
from ehrmind.data.synthetic.general import synthetic_general
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.prompts import gold_response, messages
from ehrmind.prompts.records import with_histories
from ehrmind.runs.records import Results, RolloutRow, rollout_schema
from ehrmind.tasks import TASKS
from ehrmind.types import Case

SEED = 11
SOURCE = "SOURCE"

RECIPE_HEAD = """# The recipe file

Made from the recipe's schema by `python docs/generate.py`; a test keeps it true. One YAML file says everything an experiment does. The
shortest one:

```yaml
data:
  train: {medcalc: [train.csv]}
  held_out: {medcalc: [test.csv]}
model: {name: path/to/model}
```

- Every key has a default but `data` and `model`. Where the paper (arXiv 2505.24105) states a value the default is the paper's, with one
  exception: `decoding.top_p` is 1 in place of 0.95.
- Any key can be changed on the command line, as YAML behind its dotted name:
  `ehrmind run RECIPE --out RUN rlvr.steps=20 'arms=[base, rlvr]'`.
- An unknown key is refused, and the nearest one is named; so is a key that is given twice. A number that no experiment has is refused
  with the most that is possible (`n: 1000000000000`), and so is a file of more than 4 MiB, 64 levels or 30,000 values, aliases
  (`*name`) counting for all that they stand for. A file is looked for beside the recipe first, then in the working directory.
- `RUN/recipe.yaml` is the recipe with every default written out.
- `SOURCE` below stands for each of `data.source`, `data.train`, `data.tuning`, `data.held_out`, `data.transfer.NAME` and
  `evaluate.general.source`; `NAME` is a name that you choose.

Deeper: the data in [your-data.md](your-data.md), the model in [your-model.md](your-model.md), RLVR's options in [rlvr.md](rlvr.md), the
pilot, the plan and further arms in [pilot.md](pilot.md), endpoints in [teacher.md](teacher.md), what is measured in
[evaluation.md](evaluation.md).
"""

GALLERY_HEAD = """# The gallery

This page shows questions of every family as a model reads them, each with its gold response and the
rule for a right answer. All cases are synthetic: they hold no record of any person.
[verifier.md](verifier.md) says what else is accepted, and [extending.md](extending.md) how to
write a family. The page is made by `python docs/generate.py`; a test keeps it true.
"""

FAMILIES = {
    "medcalc": "A patient's note and a calculator's question. The answer is a number, a day, or weeks and days\n"
    "([synthetic-cases.md](synthetic-cases.md)).",
    "trials": "A patient and a trial's criteria. The answer is one of three grades ([trials.md](trials.md)).",
    "ehr": "A coded history up to a prediction time. The answer is what happens next ([ehr.md](ehr.md)).",
    "table": "Your own table of questions. The answer is a number, a whole number, a day or a label\n"
    "([your-data.md](your-data.md)).",
}


def recipe_page() -> str:
    """Writes every key of the recipe: what it takes, its default, what it is."""
    schema = Recipe.model_json_schema()
    places = _places(schema)
    lines = [RECIPE_HEAD, "## The top level\n", *_table(schema, schema, places)]
    for name, where in places.items():
        part = schema["$defs"][name]
        lines += [
            f'\n<a id="{name.lower()}"></a>',
            f"## {_listed(where)}\n",
            _plain(" ".join(part.get("description", "").split())),
            "",
        ]
        lines += _table(part, schema, places)
    return "\n".join(lines) + "\n"


def _places(schema: Mapping[str, Any]) -> dict[str, list[str]]:
    """Maps each part to the dotted places where it may stand, in the order of the recipe.

    Sources of data stand in many places and are called SOURCE.
    """
    found: dict[str, list[str]] = {}

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for key, value in node.get("properties", {}).items():
            for name, deeper in _refs(value):
                first, place = name not in found, SOURCE if name == "DataSource" else f"{prefix}{key}{deeper}"
                if place not in found.setdefault(name, []):
                    found[name].append(place)
                if first or name != "DataSource":
                    walk(schema["$defs"][name], f"{place}.")

    walk(schema, "")
    return found


def _refs(node: Any, deeper: str = "") -> Iterator[tuple[str, str]]:
    """Yields (part, the text between the key and it) for every part that a value may be."""
    if isinstance(node, Mapping):
        if "$ref" in node:
            yield node["$ref"].rsplit("/", 1)[-1], deeper
        for choice in node.get("anyOf", []):
            yield from _refs(choice, deeper)
        for inner in _inner(node):
            yield from _refs(inner, f"{deeper}.NAME")


def _inner(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the schemas of a mapping's values, if the schema has them."""
    found = [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]
    return [inner for inner in found if isinstance(inner, Mapping)]


def _table(part: Mapping[str, Any], schema: Mapping[str, Any], places: Mapping[str, list[str]]) -> Iterator[str]:
    yield "| key | takes | default | what it is |"
    yield "| --- | --- | --- | --- |"
    for key, value in part["properties"].items():
        required = key in part.get("required", [])
        default = "**required**" if required else _default(value, schema)
        yield f"| `{key}` | {_takes(value, places)} | {default} | {_what(value, schema)} |"


def _takes(node: Mapping[str, Any], places: Mapping[str, list[str]]) -> str:
    """Says in words what a value may be."""
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        return f"[{places[name][0] if places[name][0] != SOURCE else 'a source of data'}](#{name.lower()})"
    if "anyOf" in node:
        return " or ".join(_takes(choice, places) for choice in node["anyOf"])
    if "enum" in node:
        return ", ".join(f"`{choice}`" for choice in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    if node.get("type") == "array":
        if "prefixItems" in node:
            return f"[{', '.join(_takes(item, places) for item in node['prefixItems'])}]"
        return f"list of {_takes(node['items'], places)}"
    if node.get("type") == "object":
        inner = _inner(node)
        return f"names, each with {_takes(inner[0], places)}" if inner else "names with values"
    if node.get("type") in ("integer", "number"):
        return _bounded(node)
    return node.get("format") or {"boolean": "true or false", "string": "text", "null": "null"}[node["type"]]


def _bounded(node: Mapping[str, Any]) -> str:
    whole = node["type"] == "integer"
    low, above = node.get("minimum"), node.get("exclusiveMinimum")
    if whole and above is not None:
        low, above = above + 1, None
    high, below = node.get("maximum"), node.get("exclusiveMaximum")
    said = [f"from {low:g}" if low is not None else "", f"above {above:g}" if above is not None else ""]
    said += [f"to {high:g}" if high is not None else "", f"below {below:g}" if below is not None else ""]
    return f"{'whole number' if whole else 'number'} {' and '.join(filter(None, said))}".strip()


def _default(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Writes a default as YAML reads it; for a part, only what differs from the part's own
    defaults."""
    value = node.get("default")
    if isinstance(value, Mapping) and "$ref" in node:
        own = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]["properties"]
        value = {key: given for key, given in value.items() if given != own.get(key, {}).get("default")}
        if not value:
            return "its own"
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def _what(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    said = node.get("description")
    if said is None:
        names = [name for name, _ in _refs(node)]
        said = (
            " ".join(schema["$defs"][names[0]].get("description", "").split()).partition(". ")[0].rstrip(".")
            if names
            else ""
        )
    return _plain(" ".join(said.split()))


def _plain(text: str) -> str:
    """Escapes text for Markdown, except between backticks."""
    parts = text.split("`")
    parts[::2] = [part.replace("_", "\\_").replace("<", "&lt;").replace("|", "\\|") for part in parts[::2]]
    return "`".join(parts)


def _listed(where: list[str]) -> str:
    return "A source of data" if where == [SOURCE] else ", ".join(f"`{place}`" for place in where)


def gallery_page() -> str:
    """Writes prompts and gold responses of every family, and the list of calculators."""
    lines = [GALLERY_HEAD]
    for family, cases in examples().items():
        lines += [f"## {family}\n", FAMILIES[family]]
        for case in cases:
            lines += [
                f"\nStratum `{case.stratum}`. {_rule(case)}\n",
                *_fenced(messages(case)[0].content),
                "",
                *_fenced(gold_response(case)),
            ]
        lines.append("")
    lines += [
        "## The calculators\n",
        f"There are {len(CALCULATORS)}. [calculators.md](calculators.md) has the inputs, formula and citation of each.\n",
    ]
    for category in CATEGORIES:
        mine = [calculator for calculator in CALCULATORS.values() if calculator.category == category]
        links = ", ".join(f"[{calculator.name}](calculators.md#{calculator.slug})" for calculator in mine)
        lines.append(f"- **{category}**: {links}")
    return "\n".join(lines) + "\n"


def examples() -> dict[str, list[Case]]:
    """Generates synthetic cases by family from one fixed seed. Every family must have some."""
    kinds = ("ckd-epi-gfr", "curb-65", "estimated-due-date", "estimated-gestational-age")
    found = {
        "medcalc": [
            synthetic_case(SEED, place, "held_out", CALCULATORS[slug], "easy", ("telegraphic",), ("numbered",))
            for place, slug in enumerate(kinds)
        ],
        "trials": synthetic_trials(1, SEED, "held_out", ("diagnoses",), difficulty="easy"),
        "ehr": [_history()],
        "table": synthetic_general(2, SEED, "held_out", ("word_problem", "who_has_it")),
    }
    assert found.keys() == TASKS.keys() == FAMILIES.keys(), "a family has no place in the gallery"
    return found


def _history() -> Case:
    """Returns the first labelled history of a small synthetic MEDS data set."""
    with TemporaryDirectory() as folder:
        write_cohort(Path(folder) / "made-up", 20, seed=SEED, events_per_subject=60, labels_per_subject=1)
        asked = {
            "meds": Path(folder) / "made-up",
            "labels": Path(folder) / "made-up" / "labels" / "next_creatinine_high",
            "question": "In one minute the patient's next creatinine result comes in. Will it be above 1.5 mg/dL?",
        }
        cases, _ = read_ehr(EhrFiles.model_validate(asked))
        (case,), _ = with_histories(cases[:1], History(max_tokens=120))
        return case


def _rule(case: Case) -> str:
    truth = case.truth
    if truth["kind"] == "decimal":
        limits = f"a number from {truth['low']:g} to {truth['high']:g}"
        return f"Right: {limits}. The unit may be left out, but must be right if it is given."
    if truth["kind"] == "label":
        return f"Right: the label `{truth['labels'][truth['value']]}`, or its number {truth['value']}."
    return {
        "integer": "Right: the same whole number.",
        "date": "Right: the same day.",
        "weeks_days": "Right: the same weeks and days.",
    }[truth["kind"]]


def _fenced(text: str) -> list[str]:
    return ["```text", *text.splitlines(), "```"]


def results_schema() -> str:
    """The JSON Schema of results.json."""
    return _schema(Results.model_json_schema(by_alias=True, mode="validation"))


def rollouts_schema() -> str:
    """The JSON Schema of a row of protected/rollouts/*.parquet; `x-parquet` is the column's type in
    the file.
    """
    schema = TypeAdapter(RolloutRow).json_schema()
    for name, kind in rollout_schema(["NAME"]).items():
        schema["properties"][name]["x-parquet"] = str(kind)
    return _schema({**schema, "additionalProperties": False})


def _schema(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


PAGES = {
    "recipe.md": recipe_page,
    "gallery.md": gallery_page,
    "results.schema.json": results_schema,
    "rollouts.schema.json": rollouts_schema,
}

if __name__ == "__main__":
    for name, made in PAGES.items():
        (Path(__file__).parent / name).write_text(made(), encoding="utf-8")
