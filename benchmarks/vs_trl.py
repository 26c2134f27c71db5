"""One GRPO step of ours against TRL's, on the same model, prompts, group size, lengths and dtype, interleaved in one run.

    python benchmarks/vs_trl.py [--case 8x200x8] [--dtype float32] [--steps 3] [--search]

Every side is a process of its own that makes one step when told to; the sides take turns. TRL is its GRPOTrainer with
`transformers` generation under the settings of `TRL_SETTINGS`, found with `--search`, which measures them all. With bf16, TRL
trains under autocast and samples with bf16 weights where that is faster: its whole step is then that rollout and the rest of
the autocast step. No answer may end early on our side, so that both sides make `members × 128` tokens for each prompt.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

NEW_TOKENS, VOCABULARY = 128, 4096
CASES = {"8x200x8": (8, 200, 8), "8x1024x8": (8, 1024, 8), "4x2048x12": (4, 2048, 12)}  # prompts, their tokens, members
FLOORS = {"8x200x8": 3, "8x1024x8": 5, "4x2048x12": 7}
# (answers in a micro-batch, cache of its generation): the fastest of SEARCHED. The static cache fails under autocast.
TRL_SETTINGS = {"8x200x8": (4, "static"), "8x1024x8": (2, "static"), "4x2048x12": (2, "static")}
SEARCHED = [(64, None), (16, None), (8, None), (4, None), (2, None), (8, "static"), (4, "static")]


def write_model(folder: Path, *, layers: int = 6, width: int = 256) -> None:
    """Llama-shaped, random, about 6 million parameters unless told otherwise, with a tokenizer of single words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", *(f"w{number}" for number in range(VOCABULARY - 2))]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} <eos>{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    heads = width // 64
    shape = {"hidden_size": width, "intermediate_size": width * 3, "num_hidden_layers": layers}
    shape |= {"num_attention_heads": heads, "num_key_value_heads": heads}
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        **shape,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def prompt_ids(number: int, length: int) -> list[int]:
    return [2 + (number * 7919 + place * place * 31 + place * 17) % (VOCABULARY - 2) for place in range(length)]


def wait_for_turn() -> None:
    if not sys.stdin.readline():
        sys.exit()


def answer(rollout: float, whole: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"rollout": rollout, "update": whole - rollout, "whole": whole, "peak_gb": peak}), file=sys.__stdout__, flush=True)


def open_side(folder: Path, prompts: int, length: int, members: int, dtype: str) -> tuple[Any, Any, list[Any], Any]:
    """Our engine and learner, the prompts, the decoding; no answer ends early."""
    from ehrmind.config import Decoding, Model, Rlvr
    from ehrmind.engines.local.engine import open_engine
    from ehrmind.types import Prompt

    engine = open_engine(Model(name=str(folder), autocast=dtype == "bfloat16"), folder, rows=512)
    assert engine.shared
    engine.stop_ids = frozenset()
    rlvr = Rlvr(learning_rate=1e-6, kl=0.0, samples=members, questions_per_step=prompts, tokens_per_microbatch=OUR_MICROBATCH)
    decoding = Decoding(temperature=1.0, max_new_tokens=NEW_TOKENS)
    asked = [Prompt(tuple(prompt_ids(number, length))) for number in range(prompts)]
    return engine, engine.learner(rlvr, 1000, rlvr=rlvr, decoding=decoding), asked, decoding


def groups_of(asked: list[Any], answers: list[Any], members: int) -> list[Any]:
    from ehrmind.types import Case, Group, Verdict

    case, verdict = Case("c", "f", "t", "f/c/t", "train", "g", {}, {}), Verdict(False, 0.0, {})
    advantages = [1.0 if member % 2 else -1.0 for member in range(members)]
    return [Group(case, prompt, own, [verdict] * members, advantages) for prompt, own in zip(asked, answers, strict=True)]


def our_side(folder: Path, case: str, dtype: str, settings: tuple[int, str | None]) -> None:
    prompts, length, members = CASES[case]
    engine, learner, asked, decoding = open_side(folder, prompts, length, members, dtype)
    step = 0
    while True:
        wait_for_turn()
        started = time.perf_counter()
        answers = engine.sample(asked, [step * 100 + number for number in range(prompts)], members, decoding)
        sampled = time.perf_counter()
        assert all(completion.n_tokens == NEW_TOKENS for own in answers for completion in own)
        learner.learn_from_groups(groups_of(asked, answers, members))
        answer(sampled - started, time.perf_counter() - started)
        step += 1


def trl_side(folder: Path, case: str, dtype: str, settings: tuple[int, str | None]) -> None:
    """`dtype` is float32, autocast (bf16 over fp32 weights) or bfloat16 (weights, for its rollout)."""
    import trl
    from datasets import Dataset

    prompts, length, members = CASES[case]
    at_once, cache = settings
    words = [" ".join(f"w{token - 2}" for token in prompt_ids(number, length)) for number in range(prompts)]
    rollouts: list[float] = []

    class InTurns(trl.GRPOTrainer):  # type: ignore[misc]
        """Makes its next step when told to, and says how long the last one took."""

        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            out = super()._generate(*args, **kwargs)
            rollouts.append(time.perf_counter() - started)
            return out

        def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step:
                answer(rollouts.pop(), time.perf_counter() - self.started)
            wait_for_turn()
            self.started = time.perf_counter()
            return super().get_batch_samples(*args, **kwargs)

    total = prompts * members
    arguments = trl.GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=total // at_once,
        num_generations=members,
        max_completion_length=NEW_TOKENS,
        temperature=1.0,
        beta=0.0,
        learning_rate=1e-6,
        max_steps=1000,
        shuffle_dataset=False,
        use_cpu=True,
        bf16=dtype == "autocast",
        gradient_checkpointing=False,
        cache_implementation=cache,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        dataloader_num_workers=0,
        model_init_kwargs={"dtype": "bfloat16" if dtype == "bfloat16" else "float32"},
    )
    InTurns(
        model=str(folder),
        reward_funcs=lambda completions, **_: [float(place % 2) for place in range(len(completions))],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": text} for text in words]),
    ).train()


class Side:
    def __init__(self, name: str, folder: Path, case: str, dtype: str, settings: tuple[int, str | None]) -> None:
        self.name = name
        asked = [sys.executable, __file__, "--side", name, "--folder", str(folder), "--case", case, "--dtype", dtype]
        asked += ["--settings", json.dumps(settings)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
        self.process = subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def step(self) -> dict[str, float]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"The side {self.name} ended early; what it said is above.")
        found: dict[str, float] = json.loads(line)
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def compare(folder: Path, case: str, dtype: str, steps: int) -> None:
    settings = TRL_SETTINGS[case]
    sides = {"ours": Side("ours", folder, case, dtype, (OUR_MICROBATCH, None))}
    narrow = dtype == "bfloat16"
    sides["trl"] = Side("trl", folder, case, "autocast" if narrow else dtype, (settings[0], None) if narrow else settings)
    if narrow:
        sides["trl bf16 weights"] = Side("trl", folder, case, "bfloat16", settings)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for turn in range(steps + 1):  # the first is for warming up
        for name, side in sides.items():
            found = side.step()
            if turn:
                measured[name].append(found)
            time.sleep(0.5)
    for side in sides.values():
        side.close()
    rounds = []
    for ours, trl, *others in zip(*measured.values(), strict=True):
        rollout = min([trl["rollout"], *(side["rollout"] for side in others)])
        theirs = {"rollout": rollout, "update": trl["update"], "whole": rollout + trl["update"]}
        rounds.append({part: theirs[part] / ours[part] for part in theirs})
    prompts, _, members = CASES[case]
    tokens = prompts * members * NEW_TOKENS
    for name, rows in measured.items():
        seconds = {part: statistics.median(row[part] for row in rows) for part in ("rollout", "update", "whole")}
        print(
            f"| {case} | {dtype} | {name} | {seconds['rollout']:.2f} s | {seconds['update']:.2f} s | {seconds['whole']:.2f} s | "
            f"{tokens / seconds['whole']:,.0f} | {max(row['peak_gb'] for row in rows):.2f} GB |"
        )
    cells = [
        f"**{statistics.median(r[part] for r in rounds):.1f}×** ({min(r[part] for r in rounds):.1f}–{max(r[part] for r in rounds):.1f})"
        for part in ("rollout", "update", "whole")
    ]
    print(f"| {case} | {dtype} | ratio, floor {FLOORS[case]} | {' | '.join(cells)} | | |", flush=True)


OUR_MICROBATCH = 4096


def search(folder: Path, case: str, dtype: str) -> None:
    """TRL's candidates, one warm step and one that counts."""
    prompts, _, members = CASES[case]
    for settings in SEARCHED:
        if (prompts * members) % settings[0] or (settings[1] and dtype == "bfloat16"):
            continue
        side = Side("trl", folder, case, "autocast" if dtype == "bfloat16" else dtype, settings)
        side.step()
        found = side.step()
        side.close()
        print(
            f"| {case} | {dtype} | trl {settings} | {found['rollout']:.2f} s | {found['update']:.2f} s | {found['whole']:.2f} s | | |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "autocast"], action="append")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--search", action="store_true", help="measure TRL's candidate settings instead")
    parser.add_argument("--side", choices=["ours", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        run = our_side if given.side == "ours" else trl_side
        settings = json.loads(given.settings)
        sys.stdout = sys.stderr
        run(given.folder, given.case[0], given.dtype[0], (settings[0], settings[1]))
        return
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "trl"))
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPU cores, {versions}")
    print(f"Medians of {given.steps} steps; ratios of each turn, median and range\n")
    print("| case | dtype | side | rollout | update | whole step | new tokens/s | peak memory |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        write_model(folder)
        for case in given.case or CASES:
            for dtype in given.dtype or ["float32", "bfloat16"]:
                if given.search:
                    search(folder, case, dtype)
                else:
                    compare(folder, case, dtype, given.steps)


if __name__ == "__main__":
    main()
