"""Decides what may be sent where, from the recipe alone, before anything is read or asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ehrmind.config import Decoding, Endpoint, EndpointArm, Recipe, Send, Teacher, parse_recipe
from ehrmind.types import InputError

FILES = {"train": {"medcalc": ["notes/train.csv"]}, "held_out": {"medcalc": ["notes/test.csv"]}}
AWAY = {"url": "https://models.example/v1", "model": "large"}


def recipe(data: dict[str, Any] | None = None, **more: Any) -> Recipe:
    return parse_recipe({"data": data or FILES, "model": {"name": "m"}, **more})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.0.0.1:8000", "127.8.9.1", "[::1]:8000"])
def test_an_endpoint_on_this_machine_works_as_it_is(host: str) -> None:
    assert recipe(teacher={"url": f"http://{host}/v1", "model": "m"}).teacher is not None


@pytest.mark.parametrize(
    "host",
    [
        "models.example",
        "localhost.models.example",
        "127.0.0.1.models.example",
        "10.0.0.7",
        "0.0.0.0",
        "[::ffff:10.0.0.7]",
        "128.0.0.1",
    ],
)
def test_any_other_one_is_refused_with_the_line_that_would_allow_it(host: str) -> None:
    with pytest.raises(InputError) as found:
        recipe(teacher={"url": f"https://{host}/v1", "model": "m"})
    sentence = str(found.value)
    assert "teacher would send the text of train.csv to" in sentence and "not this machine" in sentence
    allowed = yaml.safe_load(sentence.partition("`")[2].rpartition("`")[0])  # what it says to write, written
    assert recipe(teacher={"url": f"https://{host}/v1", "model": "m", **allowed}).teacher is not None


ADDRESSES_OF_TWO_READINGS = [
    ("http", "localhost@models.example/v1"),
    ("http", "127.0.0.1:8000@models.example/v1"),
    ("http", "models.example\\@localhost/v1"),
    ("http", "localhost/v1?forward=models.example"),
    ("http", "localhost/v1#models.example"),
    ("http", "@localhost/v1"),
    ("ftp", "localhost/v1"),
    ("localhost", "8000/v1"),
]


@pytest.mark.parametrize(("scheme", "rest"), ADDRESSES_OF_TWO_READINGS)
def test_an_address_that_could_be_read_in_two_ways_is_refused(scheme: str, rest: str) -> None:
    with pytest.raises(InputError, match=r"teacher\.url: "):
        recipe(teacher={"url": f"{scheme}://{rest}", "model": "m"})


@pytest.mark.parametrize("url", ["localhost:8000/v1", "/v1", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"teacher\.url: this is no URL; write it like http://localhost:8000/v1"):
        recipe(teacher={"url": url, "model": "m"})


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.0.0.1", "１２７.0.0.1"])
def test_what_is_checked_is_what_is_connected_to(host: str) -> None:
    chosen = Endpoint(url=f"http://{host}/v1", model="m")
    assert chosen.url == "http://127.0.0.1/v1" and chosen.is_loopback


@pytest.mark.parametrize(
    "send",
    [
        {},
        {"data": ["train.csv"]},
        {"acknowledged": True},
        {"data": ["train.csv"], "acknowledged": False},
        {"data": ["other.csv"], "acknowledged": True},
        {"data": ["*"], "acknowledged": True},
    ],
)
def test_half_a_permission_is_none(send: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"write under teacher: `send: \{data: \[train\.csv\], acknowledged: true\}`"):
        recipe(teacher={**AWAY, "send": send})


def test_a_teacher_is_sent_training_cases_and_a_scored_endpoint_the_held_out_ones() -> None:
    permitted = {**AWAY, "send": {"data": ["train.csv"], "acknowledged": True}}
    assert recipe(teacher=permitted).teacher is not None
    with pytest.raises(InputError, match=r"endpoints\.large would send the text of test\.csv to models\.example"):
        recipe(endpoints={"large": permitted})
    elsewhere = {**FILES, "transfer": {"visits": {"cases": ["visits of 2020.parquet"]}}}
    with pytest.raises(
        InputError, match=r'test\.csv and visits of 2020\.parquet.*data: \[test\.csv, "visits of 2020\.parquet"\]'
    ):
        recipe(elsewhere, endpoints={"large": permitted})


def test_records_are_not_sent_in_clear_unless_that_is_said_too() -> None:
    teacher = {**AWAY, "url": "http://node.example:8000/v1", "send": {"data": ["train.csv"], "acknowledged": True}}
    with pytest.raises(InputError, match=r"unencrypted.*in_clear: true"):
        recipe(teacher=teacher)
    assert recipe(teacher={**teacher, "send": {**teacher["send"], "in_clear": True}}).teacher is not None


RESTRICTED = [
    {"medcalc": ["train.csv"], "restricted": True},
    {"ehr": {"ehrshot": "EHRSHOT", "task": "guo_readmission"}},  # by the agreement that its users sign
    {"trials": {"topics": "topics.xml", "qrels": "qrels.txt", "trials": ["records.zip"]}, "restricted": True},
    {"cases": ["readmission.parquet"], "restricted": True},
]


@pytest.mark.parametrize("source", RESTRICTED)
def test_restricted_data_never_leave_this_machine_whatever_the_recipe_says(source: dict[str, Any]) -> None:
    names = ["train.csv", "EHRSHOT", "topics.xml", "readmission.parquet"]
    send = {"data": names, "acknowledged": True, "in_clear": True}
    with pytest.raises(InputError, match=r"data\.train is restricted, so it never leaves this machine"):
        recipe({**FILES, "train": source}, teacher={**AWAY, "send": send})
    with pytest.raises(InputError, match=r"data\.held_out is restricted"):
        recipe({**FILES, "held_out": source}, endpoints={"large": {**AWAY, "send": send}})
    assert (
        recipe({**FILES, "train": source}, teacher={"url": "http://localhost:1/v1", "model": "m"}).teacher is not None
    )


def test_synthetic_cases_are_never_restricted_but_have_to_be_named_like_all_others() -> None:
    synthetic = {**FILES, "train": {"synthetic": {"n": 5}, "restricted": True}}
    with pytest.raises(InputError, match=r"data: \[synthetic\]"):
        recipe(synthetic, teacher=AWAY)
    assert (
        recipe(synthetic, teacher={**AWAY, "send": {"data": ["synthetic"], "acknowledged": True}}).teacher is not None
    )


def test_a_source_for_all_splits_hands_its_restriction_on() -> None:
    shared = {"source": {"cases": ["all.parquet"], "restricted": True}, "train": {"limit": 5}}
    with pytest.raises(InputError, match=r"data\.train is restricted"):
        recipe(shared, teacher={**AWAY, "send": {"data": ["all.parquet"], "acknowledged": True}})


def test_a_key_in_place_of_a_variable_s_name_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match=r"teacher\.api_key_env: name the environment variable") as found:
        recipe(teacher={"url": "http://localhost/v1", "model": "m", "api_key_env": "sk-proj-secret"})
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"warmup": {"traces": "teacher"}}, "needs teacher"),
        (
            {
                "warmup": {"traces": "teacher"},
                "prompts": {"think": False},
                "teacher": {"url": "http://localhost/v1", "model": "m"},
            },
            "think",
        ),
        ({"endpoints": {"base": {"url": "http://localhost/v1", "model": "m"}}}, "has the name of an arm"),
        ({"endpoints": {"gpt-9": {"url": "http://localhost/v1", "model": "m"}}}, "pattern"),
        (
            {"teacher": {"url": "http://localhost/v1", "model": "m", "body": {"messages": []}}},
            r"body\.messages is set by",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_it_starts(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        recipe(**more)


def test_permission_is_by_the_names_that_stand_in_the_recipe_wherever_its_files_lie(tmp_path: Path) -> None:
    from ehrmind.config import load_recipe

    (tmp_path / "train.csv").write_text("x")
    tree = {
        "data": {"train": {"medcalc": ["train.csv"]}, "held_out": {"synthetic": {"n": 1}}},
        "model": {"name": "m"},
        "teacher": {**AWAY, "send": {"data": ["train.csv"], "acknowledged": True}},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    loaded = load_recipe(tmp_path / "recipe.yaml")
    assert parse_recipe(loaded.model_dump(mode="json")) == loaded, "the resolved recipe says the same"


def test_the_recipes_in_the_documentation_are_recipes(repository: Path) -> None:
    page = (repository / "docs" / "teacher.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block.partition("```")[0]) for block in page.split("```yaml\n")[1:]]
    assert [sorted(block) for block in blocks] == [["teacher", "warmup"], ["endpoints"]]
    for block in blocks:
        recipe(**block)
    defaults = Teacher(url="http://localhost/v1", model="m")
    for key in re.findall(r"`([a-z_]+)`", page):
        known = {*Teacher.model_fields, *EndpointArm.model_fields, *Send.model_fields}
        assert key in known | OTHER_WORDS, f"docs/teacher.md names {key}, which the recipe does not have"
    assert "`{temperature: 0.7, max_new_tokens: 1024}`" in page and defaults.decoding == Decoding(
        temperature=0.7, max_new_tokens=1024
    )


OTHER_WORDS = {"openai", "grounding", "large", "localhost", "http", "max_completion_tokens", "max_tokens", "true"}
