"""A rollout and an update with shared prompts against the plain path, on models that keep a state.

    python benchmarks/hybrid.py [--lengths 1024 2048] [--group 8] [--new 128] [--json]

The models are random and shaped like Qwen3.5 (gated delta nets), LFM2 (short convolutions) and
Granite 4 H (Mamba-2): three layers with a state to one with attention. Both paths run in one
process and take turns. The table shows medians in seconds, and how many times the plain path takes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from _models import Case, groups_of, open_side, write_model

SIZES = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "vocab_size": 4096,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}
LAYERS = ["linear_attention"] * 3 + ["full_attention"]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3.5": (
        "qwen3_5_text",
        {
            "layer_types": LAYERS,
            "head_dim": 64,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 64,
            "linear_value_head_dim": 64,
        },
    ),
    "LFM2": ("lfm2", {"layer_types": ["conv"] * 3 + ["full_attention"], "full_attn_idxs": [3]}),
    "Granite 4 H": (
        "granitemoehybrid",
        {
            "layer_types": LAYERS,
            "num_local_experts": 0,
            "shared_intermediate_size": 768,
            "mamba_n_heads": 8,
            "mamba_d_head": 64,
            "mamba_d_state": 64,
            "mamba_n_groups": 1,
        },
    ),
}


def write_hybrid(folder: Path, kind: str) -> None:
    """Writes a random model of a kind, with the tokenizer of the other benchmarks' models."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    write_model(
        folder, {name: size for name, size in SIZES.items() if name.startswith(("hidden", "inter", "num", "vocab"))}
    )
    model_type, more = KINDS[kind]
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, **SIZES, **more), dtype=torch.float32
    ).save_pretrained(folder)


def compared(kind: str, case: Case, dtype: str, repeats: int) -> dict[str, Any]:
    """Measures both paths in turn, after one step of each that is not counted."""
    from ehrmind.engines.local.forward.states import forget_states

    seconds: dict[str, list[float]] = {name: [] for name in ("rollout", "update", "plain_rollout", "plain_update")}
    with tempfile.TemporaryDirectory() as scratch:
        write_hybrid(Path(scratch), kind)
        sides = {"": open_side(Path(scratch), case, dtype), "plain_": open_side(Path(scratch), case, dtype)}
        plain = sides["plain_"][0]
        plain.shared = False
        plain.network.set_attn_implementation("sdpa")
        forget_states(plain.network)
        for step in range(repeats + 1):
            for side, (engine, learner, asked, decoding) in sides.items():
                begun = time.perf_counter()
                keys = [step * 100 + number for number in range(case.prompts)]
                answers = engine.sample(asked, keys, case.members, decoding)
                sampled = time.perf_counter()
                learner.learn_from_groups(groups_of(asked, answers, case.members))
                if step:
                    seconds[f"{side}rollout"].append(sampled - begun)
                    seconds[f"{side}update"].append(time.perf_counter() - sampled)
    found = {name: median(times) for name, times in seconds.items()}
    ratio = {part: found[f"plain_{part}"] / found[part] for part in ("rollout", "update")}
    return {"kind": kind, "case": str(case), "new": case.new, "dtype": dtype, "seconds": found, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--lengths", nargs="+", type=int, default=[1024, 2048], help="tokens of a prompt")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each comparison instead of the table")
    given = parser.parse_args()
    if not given.json:
        print("| model | prompts | rollout: shared, plain | ratio | update: shared, plain | ratio |")
        print("| --- | --- | --: | --: | --: | --: |")
    for kind in given.kinds:
        for length in given.lengths:
            result = compared(kind, Case(given.prompts, length, given.group, given.new), given.dtype, given.repeats)
            took, ratio = result["seconds"], result["ratio"]
            parts = (f"{took[part]:.2f}, {took['plain_' + part]:.2f} | {ratio[part]:.1f}" for part in ratio)
            row = f"| {kind} | {result['case']} | {' | '.join(parts)} |"
            print(json.dumps(result) if given.json else row, flush=True)


if __name__ == "__main__":
    main()
