"""One decoding step of layers that keep a state, on CPU: in place, with few passes over the states.

The reference functions of `transformers` copy a layer's states up to ten times a step, which takes
3 to 10 times as long. A layer's forward pass stays the model's own; only these functions in it are
ours.

Letters: `_R` rows, `_H` heads, `_K` width of keys, `_V` width of values, `_G` groups, `_N` width of
a Mamba-2 state, `_C` channels.
"""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus
from transformers.activations import ACT2FN

AT_ONCE = 1 << 20  # bytes of states that stay in a core's cache while they are read and written


def convolution_step(
    hidden_states: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Any = None
) -> Tensor:
    """Moves the inputs [R, C, kernel] on by one and convolves them. Returns [R, C, 1].

    Rounds where a convolution of whole sequences does, so that both give the same.
    """
    conv_state.copy_(torch.cat([conv_state[..., 1:], hidden_states], dim=-1))
    narrow = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
    out_RC = (conv_state.float() * weight.to(narrow).float()).sum(-1)
    out_RC = (out_RC if bias is None else out_RC + bias.to(narrow).float()).to(narrow)
    return (out_RC if activation is None else ACT2FN[activation](out_RC)).to(hidden_states.dtype)[..., None]


def gated_delta_step(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    g: Tensor,
    beta: Tensor,
    initial_state: Tensor,
    output_final_state: bool = True,
    use_qk_l2norm_in_kernel: bool = False,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Computes the gated delta rule (Yang et al., arXiv 2412.06464) for one token.

    Takes [R, 1, heads, width] and states [R, H, K, V], which it changes. Returns [R, 1, H, V] and
    the states.
    """
    heads = value.shape[2]
    query_RHK, key_RHK = (x[:, 0].float().repeat_interleave(heads // x.shape[2], 1) for x in (query, key))
    if use_qk_l2norm_in_kernel:
        query_RHK, key_RHK = (x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6) for x in (query_RHK, key_RHK))
    query_RHK = query_RHK * query.shape[-1] ** -0.5
    decay_RH, beta_RH1, value_RHV = g[:, 0].float().exp(), beta[:, 0, :, None].float(), value[:, 0].float()
    out_RHV = torch.empty_like(value_RHV)
    with torch.autocast("cpu", enabled=False):  # states are fp32
        for rows in _parts(initial_state):
            state = initial_state[rows].flatten(0, 1)  # a view
            state.mul_(decay_RH[rows].reshape(-1, 1, 1))
            read = torch.bmm(key_RHK[rows].reshape(-1, 1, state.shape[1]), state).view_as(value_RHV[rows])
            written = (value_RHV[rows] - read) * beta_RH1[rows]
            state.baddbmm_(key_RHK[rows].reshape(-1, state.shape[1], 1), written.reshape(-1, 1, state.shape[2]))
            out_RHV[rows] = torch.bmm(query_RHK[rows].reshape(-1, 1, state.shape[1]), state).view_as(written)
    return out_RHV[:, None].to(query.dtype), initial_state


def state_space_step(
    state: Tensor,
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,  # noqa: N803  # the library's names
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    z: Tensor | None = None,
    **_: Any,
) -> Tensor:
    """Computes the state space recurrence of Mamba-2 (Dao and Gu, arXiv 2405.21060) for
    one token.

    Takes states [R, H, V, N], which it changes, inputs [R, H, V], and the step, its bias and A
    expanded from heads. Returns [R, H, V].
    """
    heads, width = hidden_states.shape[1:]
    groups = B.shape[1]
    step_RH = dt[..., 0].float() if dt_bias is None else dt[..., 0].float() + dt_bias[:, 0].float()
    step_RH = softplus(step_RH) if dt_softplus else step_RH
    decay_RH, input_RHV = torch.exp(step_RH * A[:, 0, 0].float()), hidden_states.float()
    scaled_RHV, (in_RGN, from_RGN) = input_RHV * step_RH[..., None], (B.float(), C.float())
    out_RHV = torch.empty_like(input_RHV)
    with torch.autocast("cpu", enabled=False):  # states are fp32
        for part in _parts(state):
            whole = state[part]
            whole.mul_(decay_RH[part, :, None, None])
            flat = whole.view(-1, heads // groups * width, whole.shape[-1])
            flat.baddbmm_(scaled_RHV[part].reshape(len(flat), -1, 1), in_RGN[part].reshape(len(flat), 1, -1))
            out_RHV[part] = torch.bmm(flat, from_RGN[part].reshape(len(flat), -1, 1)).view_as(out_RHV[part])
    out_RHV = out_RHV if D is None else out_RHV + input_RHV * D.float()
    return (out_RHV if z is None else out_RHV * torch.nn.functional.silu(z)).to(hidden_states.dtype)


def _parts(states: Tensor) -> list[slice]:
    """Splits rows into parts whose states stay in the cache."""
    at_once = max(1, AT_ONCE // max(1, states[:1].nbytes))
    return [slice(first, first + at_once) for first in range(0, len(states), at_once)]


STEPS = {
    "causal_conv1d_update": convolution_step,
    "torch_recurrent_gated_delta_rule": gated_delta_step,
    "mamba2_selective_state_update": state_space_step,
}


def with_own_steps(forward: Any) -> Any:
    """Returns a layer's forward pass that calls these functions in place of the library's."""
    own = inspect.unwrap(forward)
    steps = {name: step for name, step in STEPS.items() if name in own.__globals__}
    changed = FunctionType(own.__code__, {**own.__globals__, **steps}, own.__name__, own.__defaults__, own.__closure__)
    changed.__kwdefaults__ = own.__kwdefaults__
    return changed
