"""The model card: data, splits, arms with intervals, use and limits, what TRIPOD-LLM asks; text
from elsewhere is text.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ehrmind.export.model import described
from ehrmind.report.model_card.card import model_card, plain
from ehrmind.report.model_card.text import BY_PEOPLE
from ehrmind.runs import Run
from ehrmind.runs.records.exported import ExportedModel
from ehrmind.types import InputError
from tests.run_folder import CANARY, finished_run, recipe
from tests.stored import store

SHA = "ab12" * 16


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = finished_run(tmp_path_factory.mktemp("runs") / "run", arms=["base", "sft_rlvr"], cases=28)
    made.model("sft_rlvr").mkdir()
    store(made.model("sft_rlvr") / "config.json", "{}")
    provenance = json.loads((made.path / "provenance.json").read_text())
    file = {"name": "rows | <b>.csv", "sha256": SHA, "rows": 1064, "hub": "owner/medcalc", "revision": "c0ffee"}
    sources: dict[str, Any] = {
        "train": {"files": [file], "cases": 70},
        "tuning": {"share_of_train": 0.1, "cases": 7},
        "held_out": {"synthetic": 28, "seed": 3, "cases": 28},
    }
    provenance["data"] |= {"sources": sources, "digest": "d" * 64}
    provenance |= {"model": {"name": "owner/base-model", "revision": "1234", "sha256": {"model.safetensors": SHA}}}
    store(made.path / "provenance.json", json.dumps(provenance))
    recipe = yaml.safe_load((made.path / "recipe.yaml").read_text())
    recipe["data"]["train"]["licence"] = "CC-BY-SA-4.0"
    store(made.path / "recipe.yaml", yaml.safe_dump(recipe))
    return made


@pytest.fixture(scope="module")
def card(run: Run) -> str:
    return model_card(described(run.path)[1], run, name="mine", licence="apache-2.0")


def rows(card: str, begins: str) -> list[list[str]]:
    """The cells of the table whose head begins so, header first."""
    lines = card.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(f"| {begins}"))
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return [found[0], *found[2:]]


def test_the_front_matter_is_what_hubs_read(card: str) -> None:
    front = yaml.safe_load(card.split("---")[1])
    assert (
        front["license"] == "apache-2.0"
        and front["base_model"] == "owner/base-model"
        and front["library_name"] == "transformers"
    )


def test_every_data_set_has_version_digest_and_licence(card: str) -> None:
    head, *found = rows(card, "Used for")
    assert head[1:5] == ["Data set", "Version", "Digest (sha256)", "Licence"]
    assert found[0] == [
        "train",
        r"owner/medcalc: rows \| &lt;b&gt;.csv",
        "c0ffee",
        f"`{SHA[:16]}`",
        "CC-BY-SA-4.0",
        "1,064",
    ]
    assert found[1][:2] == ["tuning", "10% of train"] and found[2][1] == "synthetic, by ehrmind, seed 3"
    assert f"digest `{'d' * 64}`" in card and all(len(row) == len(head) for row in found)


def test_the_card_says_how_many_right_answers_rest_on_flawed_reasoning(card: str, run: Run) -> None:
    found = json.loads((run.path / "results.json").read_text())["arms"]["sft_rlvr"]["process"]["right_but_flawed"]
    assert f"Of the {found['n']} right answers of SFT + RLVR, {100 * found['share']:.1f}" in card


def test_the_arms_and_their_intervals_are_those_of_the_results(card: str, run: Run) -> None:
    results = json.loads((run.path / "results.json").read_text())
    _, *found = rows(card, "Arm |")
    assert [row[0] for row in found] == ["Base", "**SFT + RLVR** (this model)"]
    for row, arm in zip(found, ("base", "sft_rlvr"), strict=True):
        figure = results["arms"][arm]
        low, high = (100 * bound for bound in figure["ci95"])
        assert (
            row[3] == f"{figure['accuracy']:.1%}"
            and row[4] == f"{low:.1f} to {high:.1f}"
            and row[1] == str(figure["n"])
        )
    assert [row[0] for row in rows(card, "Pair |")[1:]] == ["SFT + RLVR − Base"]


def test_what_a_run_cannot_know_is_left_for_people(card: str) -> None:
    assert all(f"- [ ] {topic}" in card for topic in BY_PEOPLE)
    filled = {row[0] for row in rows(card, "Topic |")[1:]}
    assert {"Prompting", "Compute", "Fairness", "Reproducibility", "Sample size"} <= filled
    assert "It is no medical device" in card and "vllm serve" in card and "transformers serve" in card


def test_the_card_holds_no_record_text_and_no_folder(card: str, run: Run) -> None:
    assert CANARY not in card and str(run.path) not in card and "None" not in card


def test_a_model_of_unknown_origin_is_to_be_treated_as_restricted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    text = model_card(described(tmp_path)[1], None, name="found")
    assert (
        "Nobody has written down what this model was trained on: treat it as restricted" in text
        and "license: other" in text
    )


def test_a_run_that_is_not_finished_has_no_card(tmp_path: Path) -> None:
    Run(tmp_path).manifest.create()
    store(tmp_path / "recipe.yaml", yaml.safe_dump(recipe(kl=0.0).model_dump(mode="json")))
    with pytest.raises(InputError, match="is not finished"):
        model_card(ExportedModel(arm="base"), Run(tmp_path), name="x")


@pytest.mark.parametrize(
    "hostile", ["a\n# title", "<script>x</script>", "| cell |", "[a](http://x.example)", "`code`", "![i](x)"]
)
def test_text_from_elsewhere_is_no_markup(hostile: str) -> None:
    shown = plain(hostile)
    assert "\n" not in shown and "<" not in shown and not re.search(r"(?<!\\)[|`\[\]#]", shown)
