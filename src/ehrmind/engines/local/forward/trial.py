"""Tries a model when it is opened: how it takes rows if prompts cannot be shared, and whether it
can be used.

Each way is run on synthetic tokens and compared with the model's plain forward pass over one
sequence alone. The fastest way that agrees is taken. A model that agrees in no way is refused with
the reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ehrmind.engines.local.forward.plain_rows import ATTRIBUTE, Rows, Written, taken_by
from ehrmind.engines.local.forward.sharing import trial_groups
from ehrmind.engines.local.scoring import score
from ehrmind.types import InputError

LOG = logging.getLogger(__name__)
# Mean difference of log-probabilities, in standard deviations; a spoilt or ignored state is off by
# a tenth or more
TOLERANCE = {("cpu", torch.float32): 1e-3, ("cuda", torch.float32): 5e-3}
NARROW = 0.1
LENGTHS, NEW = (9, 5, 4), 5  # tokens of the prompts, and of the answers
DECODED = (
    Rows(),
    Rows(masked=False),
    Rows(padded=False, masked=False),
    Rows(cached=False),
    Rows(cached=False, padded=False, masked=False),
)
FAILURES = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    ImportError,
)


def try_rows(network: Any, name: str) -> None:
    """Finds how a model takes rows and keeps that with the model.

    Raises InputError if no way gives the model's numbers.
    """
    vocabulary = network.get_input_embeddings().weight.shape[0]
    drawn = torch.randint(0, vocabulary, (3, max(LENGTHS) + NEW), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [ids[: length + NEW] for ids, length in zip(drawn, LENGTHS, strict=True)]
    pad_id = drawn[0][0]  # no padding token, whose embedding may be 0 before training
    with _evaluating(network), torch.no_grad():
        try:
            alone = [_alone(network, ids) for ids in rows]
            shorter = _alone(network, rows[0][: LENGTHS[0]])
        except FAILURES as error:
            raise InputError(
                f"{name} cannot be run as a causal language model ({_short(error)}); choose another model."
            ) from None
        refuse_what_is_not_finite(alone, name)
        if _apart(shorter, alone[0][: LENGTHS[0]]) > _tolerance(network):
            raise InputError(
                f"{name} reads the tokens that come after one, so it cannot write text; choose a causal language model."
            )
        way, why = _decoding(network, rows, alone, pad_id)
        if way is None:
            raise InputError(
                f"{name} gives other numbers for several answers together than for each alone ({why}); choose another "
                "model."
            )
        scored_padded = _scores_padded(network, rows, alone, pad_id)
    object.__setattr__(network, ATTRIBUTE, Rows(way.cached, way.padded, way.masked, scored_padded))
    _say(network, way, scored_padded)


def refuse_what_is_not_finite(found: Sequence[Tensor], name: str) -> None:
    if not all(bool(values.isfinite().all()) for values in found):
        raise InputError(
            f"{name} gives numbers that are not finite (NaN or infinite); its weights are damaged, get the model again."
        )


def _alone(network: Any, ids: Sequence[int]) -> Tensor:
    """Computes log-probabilities [tokens, V] of one sequence by the model's plain forward pass."""
    call = {"input_ids": torch.tensor([ids], device=next(network.parameters()).device), "use_cache": False}
    logits: Tensor = network(**{name: value for name, value in call.items() if name in taken_by(network)}).logits
    return torch.log_softmax(logits[0].float(), -1)


def _decoding(
    network: Any, rows: Sequence[Sequence[int]], alone: Sequence[Tensor], pad_id: int
) -> tuple[Rows | None, str]:
    """Finds the first way of decoding that gives every row its own log-probabilities.

    If none does, says why the last failed.
    """
    why = "another result"
    for way in DECODED:
        try:
            far = max(
                _decoded(network, way, rows, alone, places, pad_id)
                for places in ([0, 1, 2],) * way.padded or ([0], [1], [2])
            )
            if far <= _tolerance(network):
                return way, ""
            why = "another result"
        except FAILURES as error:
            why = _short(error)
    return None, why


def _decoded(
    network: Any, way: Rows, rows: Sequence[Sequence[int]], alone: Sequence[Tensor], places: list[int], pad_id: int
) -> float:
    """Measures how far the rows in `places` are from each row alone.

    Each row is decoded twice, and one copy leaves early.
    """
    device = next(network.parameters()).device
    written = Written(network, way, [rows[place][: LENGTHS[place]] for place in places], pad_id)
    logits_RV, far = written.next_logits(), 0.0
    written.take(torch.arange(len(places), device=device).repeat_interleave(2))
    logits_RV, now = logits_RV.repeat_interleave(2, 0), [place for place in places for _ in range(2)]
    for step in range(NEW):
        wanted = torch.stack([alone[place][LENGTHS[place] - 1 + step] for place in now])
        far = max(far, _apart(torch.log_softmax(logits_RV.float(), -1), wanted))
        if step == NEW - 1:
            return far
        written.append(torch.tensor([rows[place][LENGTHS[place] + step] for place in now], device=device))
        if step == 1:
            written.take(torch.arange(1, len(now), device=device))
            now = now[1:]
        logits_RV = written.next_logits()
    return far


def _scores_padded(network: Any, rows: Sequence[Sequence[int]], alone: Sequence[Tensor], pad_id: int) -> bool:
    """Tells whether rows of several lengths, padded on the right, score as each does alone."""
    groups = [(ids[:length], [ids[length:]]) for ids, length in zip(rows, LENGTHS, strict=True)]
    wanted = [
        own[length - 1 : -1].gather(1, torch.tensor(ids[length:], device=own.device)[:, None])[:, 0]
        for own, ids, length in zip(alone, rows, LENGTHS, strict=True)
    ]
    spread = float(torch.cat(list(alone)).std())
    try:
        found = score(network, groups, temperature=1.0, shared=False, pad_id=pad_id).logprobs
    except FAILURES:
        return False
    return float((found - torch.cat(wanted)).abs().mean()) <= _tolerance(network) * spread


def _apart(found: Tensor, wanted: Tensor) -> float:
    """Returns the mean difference at the worst position, in standard deviations of `wanted`;
    infinite for NaN.
    """
    far = float(((found - wanted).abs().mean(-1) / wanted.std(-1)).max())
    return far if far == far else float("inf")


def _tolerance(network: Any) -> float:
    parameter = next(network.parameters())
    return TOLERANCE.get((parameter.device.type, network.dtype), NARROW)


def _say(network: Any, way: Rows, scored_padded: bool) -> None:
    """Warns in one line of everything that is slower than usual."""
    slower = []
    if not way.cached:
        slower.append("keeps nothing of the tokens before, so every step computes the whole sequence again")
    if not way.padded:
        slower.append("is spoilt by padding, so only answers to prompts of one length are written together")
    if not scored_padded:
        slower.append("is scored by sequences of one length")
    if slower:
        LOG.warning("%s: %s; sampling takes longer", type(network).__name__, "; ".join(slower))


@contextmanager
def _evaluating(network: Any) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def try_learning(network: Any, name: str, *, shared: bool, pad_id: int, autocast: Any) -> str | None:
    """Scores as a learning step does, under its autocast. Returns the reason why the model cannot
    learn, or None.

    With shared prompts it runs without gradients, because that backward pass is our own. Raises
    InputError if numbers are not finite.
    """
    groups = trial_groups(network)
    embedded: list[Tensor] = []
    handle = network.get_input_embeddings().register_forward_hook(
        lambda _module, _args, output: embedded.append(output)
    )
    training = network.training
    try:
        with autocast, torch.no_grad():
            network.eval()
            sampled = score(network, groups, temperature=1.0, shared=shared, pad_id=pad_id).logprobs
        embedded.clear()
        network.train()
        with autocast, torch.set_grad_enabled(not shared):
            learned = score(network, groups, temperature=1.0, shared=shared, pad_id=pad_id).logprobs
        refuse_what_is_not_finite([sampled, learned], name)
        if float((learned.detach() - sampled).abs().mean()) > max(_tolerance(network), 1e-3) * max(
            1.0, float(sampled.std())
        ):
            return "it gives other numbers while it learns than while it samples"
        if not shared and embedded[0].requires_grad:  # only up to the embeddings, so that no weight needs a gradient
            slopes: Sequence[Tensor | None] = torch.autograd.grad(learned.sum(), embedded, allow_unused=True)
            if not all(slope is not None and bool(slope.isfinite().all()) for slope in slopes):
                return "its gradients are not finite, or there are none"
        return None
    except FAILURES as error:
        if isinstance(error, InputError):
            raise
        return f"a learning step fails ({_short(error)})"
    finally:
        handle.remove()
        network.train(training)
