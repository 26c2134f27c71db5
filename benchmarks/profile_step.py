"""Profile of an update or of a decoding step: shares of the time by kind of work.

    python benchmarks/profile_step.py [--shape smollm2-135m | --model DIR] [--dtype bfloat16]
    python benchmarks/profile_step.py --what decode --rows 16 --prompt 600

torch's profiler times every operator. An operator counts once, with the time that it did not spend
in another operator, for the group below that names it or something it was called from. What stays
between operators (Python, the autograd engine) is the last row. The profiler itself takes time, so
the same work is timed without it too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

PRODUCTS, CASTS, GATE, BETWEEN = "products of weights", "casts and copies", "activation and gate", "between operators"
OURS = "bench::"  # begins the names of our own scopes
# Scopes name a group for everything inside them. The first that matches counts, from the operator
# outwards: an operator of AdamW is the optimiser's, whatever it computes
SCOPES = {
    "attention": ("SharedPrompt", "bench::attention", "flash_attention", "scaled_dot_product"),
    "LM head": ("_TokenLogprobs", "bench::lm_head"),
    "optimiser": ("Optimizer.",),
    "clipping and sums of gradients": ("bench::clipped", "bench::over_workers", "AccumulateGrad"),
    "drawing tokens": ("bench::draw",),
    "norms": ("bench::norm", "rms_norm", "RmsNorm"),
    "rotary": ("bench::rotary", "Rotary"),
    GATE: ("bench::mlp", "silu", "SwiGLU"),
}
OPERATORS = {
    PRODUCTS: ("aten::mm", "aten::addmm", "aten::bmm", "_linear_pointwise", "mkldnn_linear", "_reorder_linear_weight"),
    CASTS: ("aten::copy_", "aten::clone", "aten::cat", "aten::_to_copy"),
    "embedding and indexing": ("embedding", "aten::index", "aten::gather", "scatter"),
    "elementwise": ("aten::add", "aten::mul", "aten::div", "aten::sub", "aten::neg", "aten::sigmoid", "aten::sum"),
}


class Call(NamedTuple):
    """An operator's name, the names it was called from (nearest first), and its own seconds."""

    name: str
    scopes: tuple[str, ...]
    seconds: float


def group_of(call: Call) -> str:
    of_operator = next((group for group in OPERATORS if _is(call, group)), "other operators")
    for name in (call.name, *call.scopes):
        for group, parts in SCOPES.items():
            if any(part in name for part in parts):
                return of_operator if group == GATE and of_operator in (PRODUCTS, CASTS) else group
    return of_operator


def _is(call: Call, group: str) -> bool:
    return any(part in call.name for part in OPERATORS[group])


def by_group(calls: Iterable[Call], wall: float) -> dict[str, float]:
    """Seconds by group, the largest first, and last what is left of `wall`."""
    seconds: dict[str, float] = defaultdict(float)
    for call in calls:
        seconds[group_of(call)] += call.seconds
    found = dict(sorted(seconds.items(), key=lambda item: -item[1]))
    return found | {BETWEEN: max(0.0, wall - sum(found.values()))}


def calls_of(profiler: Any) -> list[Call]:
    """The calls on CPU of a finished profile."""
    calls = []
    for event in profiler.events():
        scopes, above = [], event.cpu_parent
        while above is not None:
            scopes.append(above.name)
            above = above.cpu_parent
        if not event.name.startswith(OURS):  # its own time is Python's
            calls.append(Call(event.name, tuple(scopes), event.self_cpu_time_total / 1e6))
    return calls


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function in a scope of the profiler."""
    from torch.profiler import record_function

    def run(*args: Any, **kwargs: Any) -> Any:
        with record_function(OURS + name):
            return function(*args, **kwargs)

    return run


def name_scopes(network: Any) -> None:
    """Names what operators alone do not tell: attention, norms, rotary, the gate, the LM head,
    clipping and drawing.
    """
    from transformers import AttentionInterface

    from ehrmind.engines.local.forward import attention
    from ehrmind.engines.local.sampling import decoding_step, plain_layers, sampler
    from ehrmind.engines.local.training import learner

    AttentionInterface.register(attention.NAME, named("attention", attention.shared_prompt_attention))
    for module in network.modules():
        kind = type(module).__name__.lower()
        if kind.endswith("norm"):
            module.forward = named("norm", module.forward)
        elif "rotary" in kind:
            module.forward = named("rotary", module.forward)
        elif kind.endswith("mlp"):
            module.forward = named("mlp", module.forward)
    network.get_output_embeddings().forward = named("lm_head", network.get_output_embeddings().forward)
    for scope, where, name in (
        ("clipped", learner, "clipped"),
        ("over_workers", learner, "over_workers"),
        ("draw", sampler, "draw"),
        ("attention", decoding_step.Step, "attend"),
        ("norm", plain_layers.Norm, "__call__"),
        ("rotary", plain_layers.Plain, "_turns"),
    ):
        setattr(where, name, named(scope, getattr(where, name)))


def profiled(work: Callable[[], Any], times: int) -> tuple[list[Call], float, float]:
    """The calls of one piece of work, its seconds under the profiler, and without it (median)."""
    from torch.profiler import ProfilerActivity, profile

    work()
    plain = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        plain.append(time.perf_counter() - begun)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        begun = time.perf_counter()
        work()
        took = time.perf_counter() - begun
    return calls_of(profiler), took, statistics.median(plain)


def update_work(folder: Path, case: Any, dtype: str) -> Callable[[], Any]:
    """One update on answers that are sampled once."""
    from _models import groups_of, open_side

    engine, learner, asked, decoding = open_side(folder, case, dtype)
    answers = engine.sample(asked, list(range(case.prompts)), case.members, decoding)
    groups = groups_of(asked, answers, case.members)
    name_scopes(engine.network)
    return lambda: learner.learn_from_groups(groups)


def decode_work(folder: Path, case: Any, dtype: str, steps: int, sampling: ExitStack) -> Callable[[], Any]:
    """`steps` decoding steps of every row, with the drawing of their tokens.

    Weights are packed before, until `sampling` closes.
    """
    import numpy as np
    import torch
    from _models import open_side

    from ehrmind.engines.local.sampling import sampler
    from ehrmind.engines.local.sampling.decoder import Decoder
    from ehrmind.engines.local.sampling.plain_layers import packed_layers, rollout_weights

    engine, _, asked, decoding = open_side(folder, case, dtype)
    name_scopes(engine.network)
    for context in (torch.inference_mode(), engine.autocast(), rollout_weights(engine.network)):
        sampling.enter_context(context)
    if (plain := packed_layers(engine.network)) is not None:
        plain.head = named("lm_head", plain.head)
    decoder = Decoder(engine.network, case.prompts, case.members, case.length)
    uniforms = np.linspace(0.01, 0.99, case.prompts * case.members)
    logits = decoder.admit([prompt.token_ids for prompt in asked]).repeat_interleave(case.members, 0)
    tokens, _ = sampler.draw(logits, decoding, uniforms)

    def some(tokens: Any = tokens) -> None:
        for _ in range(steps):
            tokens, _ = sampler.draw(decoder.step(tokens), decoding, uniforms)

    return some


def shown(groups: dict[str, float], calls: int, took: float, plain: float) -> str:
    total = sum(groups.values())
    lines = ["| group | ms | share |", "| --- | --- | --- |"]
    lines += [f"| {name} | {seconds * 1e3:,.1f} | {seconds / total:.1%} |" for name, seconds in groups.items()]
    return "\n".join([*lines, f"\n{took:.3f} s under the profiler, {plain:.3f} s without it, {calls:,} operators"])


def largest(calls: Iterable[Call], group: str | None, count: int) -> str:
    seconds: Counter[tuple[str, str]] = Counter()
    times: Counter[tuple[str, str]] = Counter()
    for call in calls:
        key = (group_of(call), call.name)
        seconds[key] += call.seconds
        times[key] += 1
    rows = [(key, took) for key, took in seconds.most_common() if group is None or key[0] == group][:count]
    return "\n".join(f"{took * 1e3:10.1f} ms {times[key]:7,d}  {key[0]:32} {key[1]}" for key, took in rows)


def arguments() -> argparse.Namespace:
    from _models import add_shape

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shape(parser)
    parser.add_argument("--what", choices=["update", "decode"], default="update")
    parser.add_argument("--prompt", type=int, default=600, help="tokens of a prompt")
    parser.add_argument("--group", type=int, default=8, help="answers to a prompt")
    parser.add_argument("--new", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--prompts", type=int, default=1, help="prompts in an update")
    parser.add_argument("--rows", type=int, default=16, help="rows of a decoding step")
    parser.add_argument("--steps", type=int, default=4, help="decoding steps that are profiled")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--times", type=int, default=1, help="times without the profiler")
    parser.add_argument("--largest", type=int, default=0, metavar="N", help="the N largest operators too")
    parser.add_argument("--json", action="store_true", help="a line of JSON instead of the table")
    return parser.parse_args()


def main() -> None:
    from _models import Case, model_in

    given = arguments()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as sampling:
        folder = model_in(Path(scratch), given)
        if given.what == "update":
            case = Case(given.prompts, given.prompt, given.group, given.new)
            work = update_work(folder, case, given.dtype)
        else:
            case = Case(max(1, given.rows // given.group), given.prompt, given.group, (given.times + 2) * given.steps)
            work = decode_work(folder, case, given.dtype, given.steps, sampling)
        calls, took, plain = profiled(work, given.times)
    groups = by_group(calls, took)
    if given.json:
        print(json.dumps({"what": given.what, **case._asdict(), "dtype": given.dtype, "plain_s": plain, **groups}))
        return
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{time.strftime('%Y-%m-%d')}, {threads} threads, {versions}: {given.what} of {case}, {given.dtype}\n")
    print(shown(groups, len(calls), took, plain))
    if given.largest:
        print(f"\n{largest(calls, None, given.largest)}")


if __name__ == "__main__":
    main()
