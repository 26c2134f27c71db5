"""Four shards held by one worker or by two: what is sampled, what is learned and what is reported
are the same, by DDP and by FSDP2.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from ehrmind.engines.local.workers.sharding import TreeSum, deal
from tests.learning_in_shards import SCENARIOS
from tests.small_models import small_model
from tests.torchrun import REPOSITORY, torchrun

SCRIPT = str(REPOSITORY / "tests" / "learning_in_shards.py")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for family in {family for family, *_ in SCENARIOS.values()}:
        small_model(folder / family, family)
    return folder


@pytest.fixture(scope="module")
def alone(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    done = torchrun(1, [SCRIPT, str(models), str(out), "ddp"])
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def together(
    models: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp(request.param)
    done = torchrun(2, [SCRIPT, str(models), str(out), request.param])
    assert done.returncode == 0, done.stderr
    return request.param, out


def near(here: Any, there: Any) -> bool:
    """Numbers to rounding, all else exactly."""
    if isinstance(here, dict):
        return here.keys() == there.keys() and all(near(value, there[key]) for key, value in here.items())
    if isinstance(here, list):
        return len(here) == len(there) and all(map(near, here, there))
    return here == pytest.approx(there, rel=2e-5, abs=1e-6) if isinstance(here, float) else bool(here == there)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_who_holds_the_shards_does_not_show(alone: Path, together: tuple[str, Path], name: str) -> None:
    strategy, out = together
    if strategy == "fsdp" and "lora" in SCENARIOS[name][1]:
        assert not list(out.glob(f"{name}*")), "refused in the recipe"
        return
    before = json.loads((alone / f"{name}-0.json").read_text())
    for rank in range(2):
        assert near(json.loads((out / f"{name}-{rank}.json").read_text()), before), "every worker knows all"
    weights = load_file(alone / f"{name}-0.safetensors")
    rounding = 2**-7 if name == "bf16 weights" else 1e-6  # a second learner draws masters anew that FSDP2 has kept
    for kind, file in (
        ("as memory has them", f"{name}-0.safetensors"),
        ("as they were saved", f"{name}-saved/model.safetensors"),
    ):
        saved = load_file(alone / file)
        for key, weight in load_file(out / file).items():
            assert (
                weight.dtype == saved[key].dtype and (weight - saved[key]).abs().max() <= rounding * weight.abs().max()
            ), (kind, key)
    assert before["proof"] == "weights and log-probabilities"
    for rank in range(2 if strategy == "ddp" else 1):
        for key, weight in load_file(out / f"{name}-{rank}.safetensors").items():
            assert (weight - weights[key]).abs().max() <= rounding * weight.abs().max(), key


def test_shards_have_like_work_and_every_item_once() -> None:
    lengths = [5, 90, 7, 60, 30, 80, 6, 2]
    dealt = deal(lengths, 2)
    assert sorted(item for items in dealt for item in items) == list(range(8)) and dealt == [
        sorted(items) for items in dealt
    ]
    assert abs(sum(lengths[item] for item in dealt[0]) - sum(lengths[item] for item in dealt[1])) <= max(lengths) / 4
    assert deal(lengths, 1) == [list(range(8))], "one shard is the batch as it is"
    assert deal([3], 4) == [[0], [], [], []]


def test_a_sum_in_blocks_is_a_branch_of_the_sum_of_all() -> None:
    def tree(items: list[str]) -> str:
        total = TreeSum(lambda left, right: f"({left}{right})")
        for item in items:
            total.take(item)
        return str(total.total())

    assert tree(list("abcdefgh")) == f"({tree(list('abcd'))}{tree(list('efgh'))})" == "(((ab)(cd))((ef)(gh)))"
    assert tree(list("abcdef")) == "(((ab)(cd))(ef))" and tree(["a"]) == "a"
    assert tree([tree(list("ab")), tree(list("cd"))]) == tree(list("abcd")), (
        "shards that are summed over workers at once"
    )
