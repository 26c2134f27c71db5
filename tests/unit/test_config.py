"""The recipe: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators.telling import STYLES
from ehrmind.config import Recipe, Synthetic, differing_keys, load_recipe, parse_recipe, recipe_digest
from ehrmind.data.synthetic.cases import LEVELS
from ehrmind.data.synthetic.notes import MANNERS
from ehrmind.rl.advantages import ADVANTAGES
from ehrmind.rl.losses import IMPORTANCE, LOSSES
from ehrmind.types import InputError

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))


def tree(**sections: Any) -> dict[str, Any]:
    data = {"train": {"synthetic": {"n": 5}}, "held_out": {"synthetic": {"n": 5, "seed": 1}}}
    return {"data": data, "model": {"tiny": {}}} | sections


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree()))
    return path


def refusal(**sections: Any) -> str:
    with pytest.raises(InputError) as caught:
        parse_recipe(tree(**sections), "my.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("my.yaml: ")
    return str(caught.value)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    assert load_recipe(path).arms


def test_a_misspelt_key_is_refused_and_the_nearest_one_named() -> None:
    assert "rlvr.lerning_rate: unknown key, did you mean 'rlvr.learning_rate'?" in refusal(rlvr={"lerning_rate": 1e-5})
    assert "did you mean 'model'?" in refusal(modle={})
    assert "did you mean 'model.tiny.layers'?" in refusal(model={"tiny": {"layer": 2}})
    assert "did you mean 'reward.correct'?" in refusal(reward={"corect": 1.0})
    data = tree()["data"]
    assert "did you mean 'data.train.synthetic.seed'?" in refusal(
        data=data | {"train": {"synthetic": {"n": 5, "sed": 1}}}
    )


def test_a_key_near_no_other_is_refused_with_the_keys_there_are() -> None:
    assert "known here are questions, samples" in refusal(pilot={"zzz": 1})


def test_all_mistakes_are_said_at_once_and_each_key_once() -> None:
    said = refusal(rlvr={"steps": 0}, warmup={"strata": 3})
    assert "rlvr.steps: input should be greater than 0" in said
    assert said.count("warmup.strata:") == 1 and "list[str]" not in said


@pytest.mark.parametrize(
    ("model", "accepted"),
    [({}, False), ({"tiny": {}, "name": "a"}, False), ({"name": "a"}, True), ({"tiny": {}}, True)],
)
def test_a_model_is_either_named_or_tiny(model: dict[str, Any], accepted: bool) -> None:
    if accepted:
        assert parse_recipe(tree(model=model)).model
    else:
        assert "model: give exactly one of name and tiny" in refusal(model=model)


def test_a_data_source_is_one_thing_and_only_tuning_is_a_share_of_train() -> None:
    data = tree()["data"]
    assert "data.train: give exactly one of" in refusal(
        data=data | {"train": {"cases": ["a.parquet"], "synthetic": {"n": 1}}}
    )
    assert "share_of_train is for tuning only" in refusal(data=data | {"held_out": {"share_of_train": 0.5}})
    assert "data.held_out: field required" in refusal(data={"train": data["train"]})


def test_rehearsal_needs_strata_that_are_not_warmed_up() -> None:
    assert "strata=all leaves none" in refusal(warmup={"rehearsal": 1.0})
    assert "rehearse=own" in refusal(warmup={"rehearse": "worked", "traces": "pilot"})


def test_nothing_is_compared_with_itself() -> None:
    assert "arms names something twice" in refusal(arms=["base", "sft", "base"])
    assert "evaluate.decodings names something twice" in refusal(evaluate={"decodings": ["greedy", "greedy"]})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(number: float) -> None:
    assert "rlvr.learning_rate" in refusal(rlvr={"learning_rate": number})
    assert "reward.correct" in refusal(reward={"correct": number})


def test_nothing_to_do_is_refused() -> None:
    assert "arms" in refusal(arms=[])
    assert "evaluate.decodings" in refusal(evaluate={"decodings": []})


def test_an_override_changes_one_key_and_its_value_is_yaml(recipe_file: Path) -> None:
    overrides = [
        "rlvr.steps=7",
        "rlvr.learning_rate=2e-4",
        "model.lora.rank=4",
        "arms=[base, sft]",
        "name=1e3",
        "warmup.strata=missing",
    ]
    recipe = load_recipe(recipe_file, overrides)
    assert (recipe.rlvr.steps, recipe.rlvr.learning_rate, recipe.arms, recipe.warmup.strata) == (
        7,
        2e-4,
        ["base", "sft"],
        "missing",
    )
    assert recipe.model.lora is not None and recipe.model.lora.rank == 4
    assert recipe.model.tiny is not None, "what an override does not name stays"


@pytest.mark.parametrize(
    "override", ["rlvr.steps", "=3", "rlvr.steps=[", "rlvr.stepz=3", "rlvr.steps=x", "rlvr..steps=3", "data=1"]
)
def test_a_bad_override_is_refused_in_one_sentence(recipe_file: Path, override: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(recipe_file, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a recipe"),
        ("- a\n- b\n", "is not a recipe"),
        ("model: [", "is not valid YAML"),
        ("model: {tiny: {}}\nmodel: {name: a}\n", "line 2: the key 'model' is given twice"),
        ("rlvr:\n  steps: 1\n  steps: 2\n", "line 3: the key 'steps' is given twice"),
        ("!!python/object/apply:os.system ['true']\n", "is not valid YAML"),
        ("1: {2: 3}\n", "keys should be strings"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_an_absent_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recipe at"):
        load_recipe(tmp_path / "absent.yaml")


def test_a_relative_path_is_looked_for_beside_the_recipe_and_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("recipes", "here"):
        (tmp_path / folder).mkdir()
    (tmp_path / "recipes" / "train.parquet").touch()
    (tmp_path / "here" / "train.parquet").touch()
    (tmp_path / "here" / "test.parquet").touch()
    data = {"train": {"cases": ["train.parquet"]}, "held_out": {"cases": ["test.parquet"]}}
    (tmp_path / "recipes" / "a.yaml").write_text(yaml.safe_dump(tree(data=data, model={"name": "owner/model"})))
    monkeypatch.chdir(tmp_path / "here")
    recipe = load_recipe(tmp_path / "recipes" / "a.yaml")
    assert recipe.data.train.cases == [tmp_path / "recipes" / "train.parquet"]
    assert recipe.data.held_out.cases == [tmp_path / "here" / "test.parquet"]
    assert recipe.model.name == "owner/model", "a hub id is left alone"


def test_the_digest_follows_every_key_and_nothing_else(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    assert recipe_digest(recipe) == recipe_digest(Recipe.model_validate(recipe.model_dump(mode="json")))
    assert recipe_digest(recipe) == recipe_digest(load_recipe(recipe_file, ["rlvr.steps=100"])), "100 is the default"
    changes = [
        "seed=1",
        "rlvr.steps=9",
        "reward.correct=2",
        "data.train.synthetic.n=6",
        "threads=1",
        "model.tiny.layers=1",
    ]
    digests = {recipe_digest(load_recipe(recipe_file, [change])) for change in changes}
    assert len(digests | {recipe_digest(recipe)}) == len(changes) + 1


def test_who_runs_a_recipe_is_no_part_of_its_digest(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file, ["shards=4"])
    assert recipe_digest(recipe) == recipe_digest(
        load_recipe(recipe_file, ["shards=4", "cluster.workers=2", "cluster.strategy=fsdp"])
    )
    assert recipe_digest(recipe) != recipe_digest(load_recipe(recipe_file))


def test_workers_divide_the_shards() -> None:
    assert parse_recipe(tree(shards=4, cluster={"workers": 2})).cluster.workers == 2
    assert "use ddp" in refusal(model={"tiny": {}, "lora": {}}, cluster={"strategy": "fsdp"})
    said = refusal(shards=1, cluster={"workers": 2})
    assert "shards=1" in said and "cluster.workers=2" in said


def test_where_no_shards_are_said_every_worker_has_one() -> None:
    assert parse_recipe(tree()).shards == 1
    assert parse_recipe(tree(cluster={"address": "local:2"})).shards == 2
    assert parse_recipe(tree(cluster={"workers": 4})).shards == 4
    assert parse_recipe(tree(cluster={"workers": 2}, shards=6)).shards == 6


def test_the_keys_that_differ_are_named_with_their_dots(recipe_file: Path) -> None:
    before = load_recipe(recipe_file).model_dump(mode="json")
    after = load_recipe(recipe_file, ["rlvr.steps=9", "seed=3", "model.lora.rank=2"]).model_dump(mode="json")
    assert differing_keys(before, after) == ["model.lora", "rlvr.steps", "seed"]
    assert differing_keys(before, before) == []


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12))
def test_no_unknown_key_is_ever_accepted(key: str) -> None:
    if key not in Recipe.model_fields:
        assert key in refusal(**{key: 1})


def test_the_defaults_are_the_papers() -> None:
    recipe = parse_recipe(tree())
    assert (recipe.rlvr.learning_rate, recipe.rlvr.kl, recipe.rlvr.samples, recipe.rlvr.questions_per_step) == (
        1e-6,
        0.001,
        12,
        32,
    )
    assert (recipe.warmup.learning_rate, recipe.warmup.epochs, recipe.warmup.batch) == (2e-5, 2, 16)
    assert recipe.decoding.temperature == 0.6
    assert (recipe.reward.malformed, recipe.reward.wrong, recipe.reward.correct + recipe.reward.correct_format) == (
        -2.0,
        0.0,
        1.1,
    )


def test_the_recipe_offers_the_generators_manners_styles_and_difficulties() -> None:
    offered = {name: _choices(Synthetic.model_fields[name].annotation) for name in ("difficulty", "manners", "styles")}
    assert offered == {"difficulty": tuple(LEVELS), "manners": tuple(MANNERS), "styles": tuple(STYLES)}


def _choices(annotation: Any) -> tuple[str, ...]:
    inner = get_args(annotation)
    return _choices(inner[0]) if inner and get_origin(inner[0]) is Literal else inner


def test_one_source_stands_for_all_splits_and_a_split_may_say_more(tmp_path: Path) -> None:
    data = {"source": {"synthetic": {"n": 9}}, "tuning": {"limit": 2}, "held_out": {"cases": ["mine.parquet"]}}
    recipe = parse_recipe({"data": data, "model": {"tiny": {}}})
    assert recipe.data.train.synthetic == recipe.data.tuning.synthetic is not None
    assert (recipe.data.tuning.limit, recipe.data.train.limit, recipe.data.held_out.synthetic) == (2, None, None)
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("key", "names"),
    [("loss", LOSSES), ("advantage", ADVANTAGES), ("importance", IMPORTANCE)],
)
def test_losses_and_advantages_of_a_recipe_are_the_entries_of_the_code(
    key: str, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(getattr(parse_recipe(tree(rlvr={key: name})).rlvr, key) == name for name in names)
    assert Recipe.model_json_schema()["$defs"]["Rlvr"]["properties"][key]["enum"] == list(names)
    *first, last = (f"'{name}'" for name in names)
    assert f"rlvr.{key}: input should be {', '.join(first)} or {last}" in refusal(rlvr={key: "mine"})
    monkeypatch.setitem(names, "mine", names[next(iter(names))])
    assert parse_recipe(tree(rlvr={key: "mine"})).rlvr
