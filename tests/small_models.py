"""Small random models as `save_pretrained` writes them, with chat templates that have their
families' traits.

`small_model(folder, name)` builds any of `EVERY_FAMILY`: the three of `FAMILIES` as the product's
own tiny models, the others from a config of `tests/model_configs.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ehrmind.config import Decoding, Model, Optimiser, TinyModel
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.engines.local.engine import LocalEngine, open_engine
from ehrmind.engines.local.forward.packing import Packed
from ehrmind.engines.local.scoring import score
from ehrmind.engines.local.tiny import build_tiny
from ehrmind.prompts import gold_response, messages
from ehrmind.types import Case
from tests.medcalc_cases import SHORT
from tests.model_configs import CONFIGS, build_from_config

# Gemma's has no system role and says "model" for the assistant; Qwen3's thinking variants open the
# thought themselves
TEMPLATES = {
    "llama": None,
    "qwen3": (
        "{% for m in messages %}{{ '<|user|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
    ),
    "gemma3": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{%"
        " endif %}{{ '<|user|>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim +"
        " '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>model\n' }}{% endif %}"
    ),
}
FAMILIES = tuple(TEMPLATES)
EVERY_FAMILY = (*FAMILIES, *CONFIGS)
WINDOW = 16  # much shorter than the prompts
VOCABULARY = 97  # of random token ids


def tokens(seed: int, length: int) -> list[int]:
    return np.random.default_rng(seed).integers(2, VOCABULARY, size=length).tolist()


def cases(n: int = 14, seed: int = 9) -> list[Case]:
    return synthetic_cases(n, seed, "train", **SHORT)


def texts() -> list[str]:
    """Texts that the tokenizers are trained on."""
    return [messages(case)[0].content + gold_response(case) for case in cases(50)]


def small_model(folder: Path, family: str, *, seed: int = 0, window: int | None = WINDOW) -> Path:
    """`window` counts for `FAMILIES` only: the others' stands in their config."""
    if family not in TEMPLATES:
        build_from_config(folder, family, texts(), seed=seed)
        return folder
    sizes: dict[str, Any] = {"hidden": 32, "layers": 3, "heads": 2, "vocabulary": 400, "context": 1024}
    shape = TinyModel(family=family, sliding_window=window, **sizes)  # type: ignore[arg-type]
    build_tiny(shape, texts(), folder, seed=seed)
    template = TEMPLATES[family]
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def small_engine(folder: Path, family: str, **settings: object) -> LocalEngine:
    path = small_model(folder, family)
    return open_engine(Model(name=str(path), **settings), path, rows=16)  # type: ignore[arg-type]


def norms_of_packed_and_plain_steps(folder: Path, family: str) -> list[float]:
    """Norm of the gradient of one supervised step on ragged responses: packed, and an answer a
    row."""
    norms = []
    for shared in (True, False):
        engine = small_engine(folder / f"model-{shared}", family)
        engine.shared = shared
        if not shared:
            engine.network.set_attn_implementation("sdpa")
        prompts = [engine.prompt(messages(case)) for case in cases(5)]
        pairs = [(prompt, tuple(tokens(place, 5 + 7 * place))) for place, prompt in enumerate(prompts)]
        norms.append(
            engine.learner(Optimiser(tokens_per_microbatch=300), 4).learn_from_responses(pairs)["gradient_norm"]
        )
    return norms


def gap_of_a_bfloat16_model(folder: Path) -> float:
    """The mean difference between the log-probabilities of sampler and scorer, prompts shared in
    both."""
    path = small_model(folder, "llama")
    engine = open_engine(Model(name=str(path), dtype="bfloat16"), path, rows=16)
    assert engine.shared
    prompts = [engine.prompt(messages(case)) for case in cases(2)]
    answers = engine.sample(prompts, [1, 2], 3, Decoding(temperature=1.0, max_new_tokens=12))
    packed: list[Packed] = [
        (p.token_ids, [c.segments[0].token_ids for c in group]) for p, group in zip(prompts, answers, strict=True)
    ]
    sampled = torch.tensor([value for group in answers for c in group for value in c.segments[0].logprobs])
    with torch.no_grad():
        learned = score(engine.network, packed, temperature=1.0, shared=True, pad_id=0).logprobs.cpu()
    return float((sampled - learned).abs().mean())
