"""report: an arm looks the same on every page, whatever other arms a run has."""

from __future__ import annotations

import itertools

from ehrmind.config import VARIANTS
from ehrmind.report.formatting import ARM_NAMES
from ehrmind.report.plots.drawing import ENDPOINT, MODELS, marker_of, place_of


def test_every_arm_and_baseline_has_a_look_of_its_own() -> None:
    ours = [*ARM_NAMES, *(f"{model}_{variant}" for model, variant in itertools.product(MODELS, VARIANTS))]
    looks = {(place_of(name), marker_of(name)) for name in ours}
    assert len(looks) == len(ours)


def test_a_variant_has_the_colour_of_its_model_and_an_endpoint_that_of_endpoints() -> None:
    assert place_of("sft_rlvr_open_book") == place_of("sft_rlvr") != place_of("sft")
    assert place_of("base_of_another_lab") == ENDPOINT and marker_of("gpt") == marker_of("gpt")
