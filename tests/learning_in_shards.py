"""Samples and learns with a small model in four shards, in one process or in each of several
workers: `python FILE MODELS OUT STRATEGY`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ehrmind.config import Decoding, Lora, Model, Optimiser, Rlvr
from ehrmind.engines.local.engine import LocalEngine, open_engine
from ehrmind.engines.local.workers.fsdp import full_tensor_of
from ehrmind.prompts import gold_response, messages
from ehrmind.types import Group, Verdict
from ehrmind.world import joined
from tests.small_models import cases

HOW = Decoding(temperature=1.0, max_new_tokens=14)
VERDICT = Verdict(False, 0.0, {"format": 0.0, "outcome": 0.0})
# By name: the model's family, how it is opened, how it learns, and how many of seven questions have
# answers that differ
SCENARIOS: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "plain policy gradient": ("llama", {}, {}, 7),
    "a reference, and two steps a batch": ("gemma3", {}, {"kl": 0.1, "epochs_per_batch": 2}, 5),
    "fewer groups than shards": ("llama", {}, {}, 1),
    "no group with signal": ("llama", {}, {}, 0),
    "activations computed again": ("qwen3", {}, {"gradient_checkpointing": True}, 7),
    "an answer a row": ("llama", {"shared": False}, {}, 7),
    "bf16 autocast": ("llama", {"autocast": True}, {}, 7),
    "bf16 weights": ("untied", {"dtype": "bfloat16"}, {"kl": 0.1}, 7),
    "an adapter with dropout": ("llama", {"lora": Lora(rank=2, dropout=0.2)}, {"kl": 0.1}, 7),
}


def learn(engine: LocalEngine, settings: dict[str, Any], differing: int) -> dict[str, Any]:
    """Two rounds of sampling and a policy step, then a supervised one; what was written, what was
    reported."""
    chosen = cases(7)
    prompts = [engine.prompt(messages(case)) for case in chosen]
    rlvr = Rlvr(
        **{"learning_rate": 2e-3, "kl": 0.0, "tokens_per_microbatch": 256, "max_gradient_norm": 0.1, **settings}
    )
    learner = engine.learner(rlvr, 2, rlvr=rlvr, decoding=HOW)
    said: list[Any] = []
    for round_ in range(2):
        answers = engine.sample(prompts, list(range(round_, round_ + 7)), 3, HOW)
        advantages = [(1.0, -0.5, -0.5) if place < differing else (0.0, 0.0, 0.0) for place in range(7)]
        groups = [
            Group(c, p, a, [VERDICT] * 3, adv)
            for c, p, a, adv in zip(chosen, prompts, answers, advantages, strict=True)
        ]
        said.append(
            [[c.text, c.finish_reason, c.segments[0].token_ids, c.segments[0].logprobs] for a in answers for c in a]
        )
        said.append(learner.learn_from_groups(groups))
    said.append(engine.label_logprobs([(prompt, "<answer>", ["1", "22"]) for prompt in prompts]))
    pairs = [
        (prompt, engine.response_tokens(gold_response(case), prompt))
        for case, prompt in zip(chosen, prompts, strict=True)
    ]
    said.append(engine.learner(Optimiser(learning_rate=1e-3, tokens_per_microbatch=600), 1).learn_from_responses(pairs))
    return {"said": said}


def main(models: Path, out: Path, strategy: str) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as world:
        for name, (family, opening, settings, differing) in SCENARIOS.items():
            if strategy == "fsdp" and "lora" in opening:
                continue
            opening = dict(opening)
            shared = opening.pop("shared", True)
            model = Model(name=str(models / family), **opening)
            engine = open_engine(model, models / family, rows=16, shards=4, strategy=strategy)
            engine.shared = shared
            found = learn(engine, settings, differing)
            found["proof"] = engine.save(out / f"{name}-saved")["proof"]
            dtype = getattr(torch, model.dtype)
            weights = {
                key: full_tensor_of(weight).to(dtype).contiguous() for key, weight in engine.network.named_parameters()
            }
            (out / f"{name}-{world.rank}.json").write_text(json.dumps(found))
            save_file(weights, out / f"{name}-{world.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
