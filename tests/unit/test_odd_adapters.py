"""Numbers of an adapter's config that would take memory or time without an end are one sentence;
those that people have pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ehrmind.engines.local.opening.adapters import opened_adapter
from ehrmind.types import InputError
from tests.small_adapters import lora
from tests.small_models import small_model

ENDLESS: dict[str, dict[str, Any]] = {
    "r 1000000000000, which none of its tensors has": {"r": 10**12},
    "init_r 1000000000000, which none of its tensors has": {"peft_type": "ADALORA", "total_step": 9, "init_r": 10**12},
    'init_lora_weights "pissa_niter_999999999999", which takes': {"init_lora_weights": "pissa_niter_999999999999"},
    'init_lora_weights "pissa_niter_9_9_9_9_9_9", which takes': {"init_lora_weights": "pissa_niter_9_9_9_9_9_9"},
    "loftq_iter 1000000000000, which is more": {"init_lora_weights": "loftq", "loftq_config": {"loftq_iter": 10**12}},
    "layer_replication of no layers, or of more than 1000": {"layer_replication": [[0, 1]] * 10**5},
    "layer_replication of no layers, or": {"layer_replication": [[0, 10**12]]},
    "layer_replication of no layers": {"layer_replication": [[-(10**12), 1]]},
    "layer_replication that is no list of pairs": {"layer_replication": [[0, "x"]]},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("base") / "model", "untied")


@pytest.mark.parametrize("what", ENDLESS)
def test_a_number_without_an_end_is_one_sentence(tmp_path: Path, base: Path, what: str) -> None:
    with pytest.raises(InputError, match=f"adapter_config.json says {what}"):
        opened_adapter(lora(tmp_path / "adapter", **ENDLESS[what]), base)


@pytest.mark.parametrize(
    "more", [{"init_lora_weights": "pissa_niter_16"}, {"layer_replication": [[0, 2]]}, {"init_lora_weights": True}]
)
@pytest.mark.filterwarnings("ignore")
def test_an_ordinary_number_passes(tmp_path: Path, base: Path, more: dict[str, Any]) -> None:
    opened_adapter(lora(tmp_path / "adapter", **more), base)


@pytest.mark.filterwarnings("ignore")
def test_what_is_left_of_a_rank_may_be_a_list(tmp_path: Path, base: Path) -> None:
    """As AdaLoRA writes it: which parts of a rank are left."""
    folder = lora(tmp_path / "adapter", peft_type="ADALORA", total_step=9, rank_pattern={"q_proj": [True, False]})
    with pytest.raises(
        InputError, match=r"lacks|cannot be opened on its base"
    ):  # since the tensors are those of another kind
        opened_adapter(folder, base)
