"""One GRPO step of ours against TRL's, on the same model, prompts, group size, lengths and dtype,
interleaved in one run.

    python benchmarks/vs_trl.py [--dtype float32] [--steps 3]        # the three cases, a table
    python benchmarks/vs_trl.py --prompt 1024 --group 8 --new 128 --prompts 8 [--device cuda] --json
    python benchmarks/vs_trl.py --shape smollm2-135m --prompt 600 --new 64 --prompts 2 --json
    python benchmarks/vs_trl.py --model DIR --prompt 600 --dtype bfloat16 --only-search

With `--prompt` it measures a case of your own. `--shape` gives a random model the sizes of a
well-known one; `--model` takes a model's own directory. Where a step takes minutes, `--warm-up 0
--steps 1` makes one.

Every side is a process of its own that makes one step on request; the sides take turns. TRL is
its GRPOTrainer with `transformers` generation under the fastest settings of those `--search`
measures; without it, those that it found for the three cases, or `--trl 4,static`. Settings whose
estimated memory is not there are left out. With bf16, TRL trains under autocast and samples with
bf16 weights where that is faster: its whole step is then that rollout and the rest of the autocast
step. No answer may end early on either side, so that both make `group × new` tokens for each
prompt. With `--json`, a line for each dtype.

Our side's process measures the machine's limits between its steps (`_limits.py`). `share_of_rate`
is what the update must compute, each prompt once and attention included, over its seconds, as a
share of the rate of its products of weights measured just before and after. `decode` holds a
decoding step at 16, 32 and 64 rows: its milliseconds, those of reading the weights once, those of
its products at the rate of their shape, and the step over the larger of the two.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from _limits import DECODING_TABLE, decoding_rows, update_rate
from _limits import decoding as decoding_against_limits
from _models import (
    OUR_MICROBATCH,
    Case,
    add_shape,
    groups_of,
    model_in,
    now,
    open_side,
    operations,
    prompt_ids,
    vocabulary_of,
)
from _trl_settings import Settings, candidates, found_before, settings_from

PARTS = ("rollout", "update", "step")
BF16_WEIGHTS = "trl bf16 weights"
STEP, DECODE = "step", "decode"  # what a side is asked for
LONG = 20  # seconds; a first step beyond that ranks TRL's settings without another one


FLOORS = {Case(8, 200, 8): 3, Case(8, 1024, 8): 5, Case(4, 2048, 12): 7}


def wait_for_turn() -> str:
    """Waits for the next request and returns it; ends the process when there is none."""
    line = sys.stdin.readline()
    if not line:
        sys.exit()
    return line.strip()


def answer(rollout: float, step: float, device: str, **more: float) -> None:
    import torch

    on_gpu = device == "cuda"
    peak = (
        torch.cuda.max_memory_allocated() / 2**30
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    )
    said = {"rollout": rollout, "update": step - rollout, "step": step, "peak_gb": peak, **more}
    print(json.dumps(said), file=sys.__stdout__, flush=True)


def our_side(folder: Path, case: Case, dtype: str, settings: Settings) -> None:
    engine, learner, asked, decoding = open_side(folder, case, dtype)
    config = engine.network.config
    measured_rate = partial(update_rate, config, case, OUR_MICROBATCH[case.device], dtype)
    before = measured_rate()
    step = 0
    while True:
        if wait_for_turn() == DECODE:
            print(json.dumps(decoding_against_limits(engine, case, dtype)), file=sys.__stdout__, flush=True)
            continue
        started = now(case.device)
        answers = engine.sample(asked, [step * 100 + number for number in range(case.prompts)], case.members, decoding)
        sampled = now(case.device)
        assert all(completion.n_tokens == case.new for own in answers for completion in own)
        learner.learn_from_groups(groups_of(asked, answers, case.members))
        ended = now(case.device)
        after = measured_rate()
        rate, before = (before + after) / 2, after
        share = operations(case, config) / (ended - sampled) / rate
        answer(sampled - started, ended - started, case.device, share_of_rate=share, gflops=rate / 1e9)
        step += 1


def trl_side(folder: Path, case: Case, dtype: str, settings: Settings) -> None:
    """`dtype` is float32, autocast (bf16 over fp32 weights) or bfloat16 (weights, for its
    rollout)."""
    import trl
    from datasets import Dataset

    vocabulary = vocabulary_of(folder)
    rollouts: list[float] = []

    class InTurns(trl.GRPOTrainer):  # type: ignore[misc]
        """Makes its next step on request, and says how long the last one took."""

        def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
            """Gives the ids that our side has: a prompt's text is its number."""
            return [prompt_ids(int(number), case.length, vocabulary) for number in prompts], None, {}

        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            started = now(case.device)
            out = super()._generate(*args, **kwargs)
            rollouts.append(now(case.device) - started)
            return out

        def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step:
                answer(rollouts.pop(), now(case.device) - self.started, case.device)
            wait_for_turn()
            self.started = now(case.device)
            return super().get_batch_samples(*args, **kwargs)

    total = case.prompts * case.members
    arguments = trl.GRPOConfig(
        output_dir=str(Path(tempfile.gettempdir()) / "ehrmind-vs-trl"),  # nothing is saved
        per_device_train_batch_size=settings.microbatch,
        gradient_accumulation_steps=total // settings.microbatch,
        num_generations=case.members,
        max_completion_length=case.new,
        temperature=1.0,
        beta=0.0,
        learning_rate=1e-6,
        max_steps=1000,
        shuffle_dataset=False,
        use_cpu=case.device == "cpu",
        bf16=dtype == "autocast",
        tf32=True
        if case.device == "cuda" and dtype != "float32"
        else None,  # or its rollout, which autocast does not reach, takes fp32
        gradient_checkpointing=False,
        cache_implementation=settings.cache,
        torch_compile=settings.compiled,
        generation_kwargs={"min_new_tokens": case.new},
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
        train_dataset=Dataset.from_list([{"prompt": str(number)} for number in range(case.prompts)]),
    ).train()


class Side:
    def __init__(self, name: str, folder: Path, case: Case, dtype: str, settings: Settings) -> None:
        self.name = name
        asked = {"name": name, "folder": str(folder), "case": case, "dtype": dtype, "settings": settings}
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TRANSFORMERS_VERBOSITY": "error",
        }
        command = [sys.executable, __file__, "--side", json.dumps(asked)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, what: str = STEP) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"The side {self.name} ended early; what it said is above.")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def sides_of(case: Case, dtype: str, settings: Settings) -> dict[str, tuple[str, str, Settings]]:
    """By name: whose, in which type, TRL's settings."""
    if dtype != "bfloat16":
        return {"ours": ("ours", dtype, settings), "trl": ("trl", dtype, settings)}
    plain = settings._replace(cache=None)  # the static cache fails under autocast
    return {
        "ours": ("ours", dtype, settings),
        "trl": ("trl", "autocast", plain),
        BF16_WEIGHTS: ("trl", dtype, settings),
    }


def take_turns(
    folder: Path, case: Case, sides: dict[str, tuple[str, str, Settings]], steps: int, warm_up: int
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """The figures of each side's steps, and our decoding steps.

    On CPU every side stays and they make a step in turn, the first for warming up. A GPU does not
    hold all of them: there a side is a process for its own steps, the first for warming up, and
    half of ours come before TRL's, half after."""
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    if case.device == "cuda":
        for name in (*sides, "ours"):
            side = Side(sides[name][0], folder, case, *sides[name][1:])
            measured[name] += [side.ask() for _ in range(1 + steps * (1 if name == "ours" else 2))][1:]
            side.close()
            print(f"{case} {name}: {measured[name][-1]}", file=sys.stderr, flush=True)
        return measured, {}
    opened = {name: Side(whose, folder, case, dtype, settings) for name, (whose, dtype, settings) in sides.items()}
    for turn in range(steps + warm_up):
        for name, side in opened.items():
            found = side.ask()
            print(f"{case} {name}: {found['rollout']:.2f} + {found['update']:.2f} s", file=sys.stderr, flush=True)
            if turn >= warm_up:
                measured[name].append(found)
            time.sleep(0.5)
    decoded = opened["ours"].ask(DECODE)
    for side in opened.values():
        side.close()
    return measured, decoded


def measure(folder: Path, case: Case, dtype: str, steps: int, settings: Settings, warm_up: int = 1) -> dict[str, Any]:
    """Both sides' figures and the ratios, each turn by itself."""
    measured, decoded = take_turns(folder, case, sides_of(case, dtype, settings), steps, warm_up)
    rounds = []
    for ours, trl, *others in zip(*measured.values(), strict=True):
        rollout = min([trl["rollout"], *(side["rollout"] for side in others)])
        theirs = {"rollout": rollout, "update": trl["update"], "step": rollout + trl["update"]}
        rounds.append({part: theirs[part] / ours[part] for part in PARTS})
    tokens = case.prompts * case.members * case.new
    result: dict[str, Any] = {**case._asdict(), "dtype": dtype, "steps": steps, "trl_settings": settings}
    for name, rows in measured.items():
        seconds = {f"{part}_s": statistics.median(row[part] for row in rows) for part in PARTS}
        rest = {
            "tokens": tokens,
            "tokens_per_s": tokens / seconds["step_s"],
            "peak_gb": max(row["peak_gb"] for row in rows),
        }
        result[name] = {**seconds, **rest}
    of_limits = {name: statistics.median(row[name] for row in measured["ours"]) for name in ("share_of_rate", "gflops")}
    result["ours"] |= of_limits | {"decode": decoded}
    ratios = {part: [one[part] for one in rounds] for part in PARTS}
    result["ratio"] = {part: statistics.median(found) for part, found in ratios.items()}
    return result | {"ratio_range": {part: [min(found), max(found)] for part, found in ratios.items()}}


def rows_of(case: Case, result: dict[str, Any]) -> list[str]:
    named = f"| {case} | {result['dtype']} |"
    rows = []
    for name in ("ours", "trl", BF16_WEIGHTS):
        if side := result.get(name):
            seconds = " | ".join(f"{side[f'{part}_s']:.2f} s" for part in PARTS)
            rows.append(f"{named} {name} | {seconds} | {side['tokens_per_s']:,.0f} | {side['peak_gb']:.2f} GB |")
    ranges = {part: "{:.1f}–{:.1f}".format(*result["ratio_range"][part]) for part in PARTS}
    cells = " | ".join(f"**{result['ratio'][part]:.1f}×** ({ranges[part]})" for part in PARTS)
    share = f"the update at {result['ours']['share_of_rate']:.0%} of {result['ours']['gflops']:,.0f} GFLOP/s"
    floor = f", floor {FLOORS[case]}" if case in FLOORS else ""
    return [*rows, f"{named} ratio{floor} | {cells} | {share} | |"]


def search(folder: Path, case: Case, dtype: str, among: list[Settings]) -> Settings:
    """The fastest of TRL's candidates by one warm step; what each took goes to standard error.

    A first step that takes long counts itself."""
    from ehrmind.engines.local.memory import free_memory

    took: dict[Settings, float] = {}
    free = free_memory() if case.device == "cpu" else math.inf
    for settings in among or candidates(folder, case, dtype, free):
        side = Side("trl", folder, case, "autocast" if dtype == "bfloat16" else dtype, settings)
        found = side.ask()
        if found["step"] < LONG or settings.compiled:
            found = side.ask()
        side.close()
        took[settings] = found["step"]
        seconds = f"{found['rollout']:.2f} + {found['update']:.2f} s, {found['peak_gb']:.1f} GB"
        print(f"{case} {dtype} trl {settings}: {seconds}", file=sys.stderr, flush=True)
    return min(took, key=lambda settings: took[settings])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, help="tokens of a prompt; without it, the three cases")
    parser.add_argument("--group", type=int, default=8, help="answers to a prompt")
    parser.add_argument("--new", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--prompts", type=int, default=8, help="prompts in a step")
    add_shape(parser)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], action="append", help="both, unless named")
    parser.add_argument("--steps", type=int, default=3, help="turns that count")
    parser.add_argument("--warm-up", type=int, default=1, help="turns before them")
    parser.add_argument(
        "--trl", type=settings_from, action="append", default=[], help="TRL's settings; several are searched"
    )
    parser.add_argument("--search", action="store_true", help="look for TRL's fastest settings first")
    parser.add_argument("--only-search", action="store_true", help="and measure nothing else")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each comparison instead of the table")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.side:
        side = json.loads(given.side)
        sys.stdout = sys.stderr
        run = our_side if side["name"] == "ours" else trl_side
        run(Path(side["folder"]), Case(*side["case"]), side["dtype"], Settings(*side["settings"]))
        return
    own = [Case(given.prompts, given.prompt, given.group, given.new, given.device)] if given.prompt else []
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "trl"))
    if not given.json:
        print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPU cores, {versions}")
        print(f"Medians of {given.steps} steps; ratios of each turn, median and range\n")
        print("| case | dtype | side | rollout | update | whole step | new tokens/s | peak memory |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    decoded: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_in(Path(scratch), given, device=given.device)
        for case in own or FLOORS:
            for dtype in given.dtype or ["float32", "bfloat16"]:
                settings = given.trl[0] if given.trl else found_before(case)
                if given.search or given.only_search or len(given.trl) > 1:
                    settings = search(folder, case, dtype, given.trl)
                if given.only_search:
                    print(f"{case} {dtype}: --trl {settings}")
                    continue
                result = measure(folder, case, dtype, given.steps, settings, given.warm_up)
                print(json.dumps(result) if given.json else "\n".join(rows_of(case, result)), flush=True)
                decoded += decoding_rows(case, dtype, result["ours"]["decode"])
    if decoded and not given.json:
        print("\n" + "\n".join([*DECODING_TABLE, *decoded]))


if __name__ == "__main__":
    main()
