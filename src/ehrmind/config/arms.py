"""Arms: the four models of a run, and prompt variants of each. `base_open_book` is the model `base`
with the variant `open_book`.
"""

from __future__ import annotations

import difflib
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

ARMS = ("base", "rlvr", "sft", "sft_rlvr")
VARIANTS = ("few_shot", "no_thinking", "open_book", "tool", "majority", "best")
VOTING = ("majority", "best")  # of several sampled answers, whatever the decoding


def split_arm(arm: str) -> tuple[str, str]:
    """Returns (model, variant): `sft_rlvr_tool` is (`sft_rlvr`, `tool`). The variant is empty if
    the model is asked as the recipe asks. Raises ValueError for anything else.
    """
    for model in sorted(ARMS, key=len, reverse=True):
        if arm == model or (arm.startswith(f"{model}_") and arm.removeprefix(f"{model}_") in VARIANTS):
            return model, arm.removeprefix(model).removeprefix("_")
    known = [*ARMS, *(f"{model}_{variant_name}" for model in ARMS for variant_name in VARIANTS)]
    near = difflib.get_close_matches(arm, known, n=1)
    hint = f", did you mean '{near[0]}'?" if near else ""
    raise ValueError(
        f"'{arm[:40]}' is no arm{hint or ';'} arms are {', '.join(ARMS)}, or one of them with _{', _'.join(VARIANTS)}"
        " behind it"
    )


def _known(arm: str) -> str:
    split_arm(arm)
    return arm


Arm = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "description": "MODEL or MODEL_VARIANT"})
]
