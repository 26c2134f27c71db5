"""YAML and JSON that grow, hold themselves or lie deep are refused at once, by a sentence that
names the file; ordinary ones are read.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ehrmind.config import load_recipe, parse_recipe
from ehrmind.config.recipe import apply_override
from ehrmind.documents import MAX_DEPTH, json_value, read_json, yaml_value
from ehrmind.predict.models import endpoint_of
from ehrmind.types import InputError

LAUGHS = (
    "\n".join(["a0: &a0 [x,x,x,x,x,x,x,x,x]"] + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)])
    + "\n"
)
MERGED = (
    "\n".join(["a0: &a0 {k: 1}"] + [f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 10)])
    + "\n"
)
HOSTILE = {
    "aliases of aliases": (LAUGHS, "more than 30,000 values"),
    "merge keys of merge keys": (MERGED, "more than 30,000 values"),
    "a list that holds itself": ("data: &d [1, *d]\n", "holds itself"),
    "a mapping that holds itself": ("data: &d {train: *d}\n", "holds itself"),
    "a mapping merged into itself": ("data: &d\n  <<: *d\n", "holds itself"),
    "a ring over two anchors": ("a: &a {b: &b [*a]}\n", "holds itself"),
    "20,000 lists in each other": ("a: " + "[" * 20_000 + "]" * 20_000, "deep in each other"),
    "20,000 dashes": ("- " * 20_000 + "x", "deep in each other"),
    "depth by aliases": (
        "\n".join(["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 80)]),
        "deep in each other",
    ),
    "a million keys": ("".join(f"k{i}: 1\n" for i in range(200_000)), "more than 30,000 values"),
    "an integer of a million digits": (f"seed: {'9' * 1_000_000}\n", "number of 1,000,000 characters"),
    "a tagged integer": (f"seed: !!int '{'9' * 5000}'\n", "number of 5,000 characters"),
    "minutes of minutes": (f"seed: 1{':59' * 300_000}\n", "number of 900,001 characters"),
    "a day that is none": ("model: {date: 2001-99-99}\n", "not valid YAML"),
    "a tag of a bad value": ("a: !!bool maybe\n", "not valid YAML"),
    "a timestamp tag": ("a: !!timestamp soon\n", "not valid YAML"),
    "a key that is a list": ("? [a, b]\n: 1\n", "not valid YAML"),
    "a tag of Python": ("a: !!python/name:os.system ''\n", "not valid YAML"),
    "an alias of nothing": ("a: *b\n", "not valid YAML"),
    "control characters": ("a: \x1b[2J\n", "not valid YAML"),
    "more than any recipe": ("# " + "x" * (5 << 20), "larger than 4 MiB"),
    "a key given twice within an alias": ("a: &a {k: 1, k: 2}\nb: *a\n", "is given twice"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_in_seconds_as_recipe_override_and_endpoint(name: str, tmp_path: Path) -> None:
    text, said = HOSTILE[name]
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    started = time.monotonic()
    for read in (lambda: load_recipe(file), lambda: endpoint_of(str(file), "a")):
        with pytest.raises(InputError, match=said) as refused:
            read()
        assert str(refused.value).startswith(str(file)) and len(str(refused.value)) < 600
    with pytest.raises(InputError, match=said):
        apply_override({}, f"data={text}")
    assert time.monotonic() - started < 20


def test_ordinary_aliases_and_merge_keys_are_read() -> None:
    text = "a: &a {n: 5, seed: 1}\nb: *a\nc: {<<: *a, seed: 2}\nd: [*a, *a]\n"
    assert yaml_value(text, "it") == {
        "a": {"n": 5, "seed": 1},
        "b": {"n": 5, "seed": 1},
        "c": {"n": 5, "seed": 2},
        "d": [{"n": 5, "seed": 1}] * 2,
    }


def test_a_text_of_many_digits_stays_a_text() -> None:
    digits = "7" * 5000
    assert yaml_value(f"a: '{digits}'\nb: |\n  {digits}\n", "it") == {"a": digits, "b": f"{digits}\n"}


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(
        b"\xef\xbb\xbfdata: {train: {synthetic: {n: 5}}, held_out: {synthetic: {n: 5, seed: 1}}}\nmodel: {tiny: {}}\n"
    )
    assert load_recipe(file).data.train.synthetic is not None


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "9" * 5_000_000, "\x00", '{"a": 1'])
def test_hostile_json_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    for read in (lambda: read_json(file), lambda: json_value(text, str(file))):
        with pytest.raises(InputError) as refused:
            read()
        assert str(refused.value).startswith(str(file))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.train.synthetic.n", 10**12),
        ("pilot.samples", 10**9),
        ("decoding.max_new_tokens", 10**12),
        ("rlvr.steps", 10**18),
        ("prompts.history.max_tokens", 10**12),
        ("seeds", 10**6),
        ("seed", 10**30),
        ("model.tiny.layers", 10**9),
        ("rlvr.checkpoint_every", 10**40),
    ],
)
def test_a_number_that_no_experiment_has_is_refused_by_its_key(key: str, value: int) -> None:
    tree = {
        "data": {"train": {"synthetic": {"n": 5}}, "held_out": {"synthetic": {"n": 5, "seed": 1}}},
        "model": {"tiny": {}},
    }
    apply_override(tree, f"{key}={value}")
    with pytest.raises(InputError, match=rf"{key}: at most [0-9,]+ is possible"):
        parse_recipe(tree)


def test_seeds_of_many_digits_and_long_contexts_are_ordinary() -> None:
    tree = {
        "seed": 20261130123456,
        "data": {"train": {"synthetic": {"n": 5}}, "held_out": {"synthetic": {"n": 5, "seed": 1}}},
    }
    read = parse_recipe(
        {**tree, "model": {"tiny": {}}, "prompts": {"max_tokens": 1_000_000}, "decoding": {"max_new_tokens": 131_072}}
    )
    assert read.seed == 20261130123456 and MAX_DEPTH > 20
