"""Runs plain decoder layers without their modules, on weights packed once for a rollout.

A decoding step of a few rows is many small operations, and a module's own code makes a third of
them needlessly. Here queries, keys and values are one matmul. The activation and the product with
`up` are part of their matmuls. Rotary factors are computed once for all layers.

Plain means pre-norm layers with RMS norms, rotary positions and a gated MLP. The classes of such
layers are listed. A model of these is tried against its own modules when it is opened; one that
disagrees keeps them.

Letters: `_N` tokens, `_E` hidden width, `_H` heads, `_K` key heads, `_D` width of a head, `_V`
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import embedding, silu

from ehrmind.engines.local.forward.attention import windows
from ehrmind.engines.local.forward.matmul import LINEAR, LINEAR_WITH, ROWS, Linear, can_pack, packed_weights
from ehrmind.engines.local.forward.norms import RmsNorm

PLAIN_LAYERS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")
TRIED, PACKED = "_ehrmind_plain_layers", "_ehrmind_packed_layers"  # attributes of a network

# Stores keys and values of a layer and attends: layer, scaled query [N, H, D], key and
# value [N, K, D], window -> [N, H · D]
Attend = Callable[[int, Tensor, Tensor, Tensor, int | None], Tensor]


class Norm(NamedTuple):
    """A norm of fp32 inputs."""

    weight: Tensor
    eps: Tensor  # [1]
    share: float  # 1 / width

    def __call__(self, hidden: Tensor, dtype: torch.dtype) -> Tensor:
        length = vector_norm(hidden, 2, -1, True)
        inverse = torch.addcmul(self.eps, length, length, value=self.share).rsqrt_()
        return (hidden * inverse).mul_(self.weight).to(dtype)


class Matmul(NamedTuple):
    """Linear layers side by side: their weight in oneDNN's layout, their bias, their adapters."""

    weight: Tensor
    bias: Tensor | None
    adapter: tuple[Tensor, Tensor] | None

    def __call__(self, input_NE: Tensor) -> Tensor:
        out: Tensor = LINEAR(input_NE, self.weight, self.bias, "none", [], "")
        return out if self.adapter is None else out.add_(self._adapted(input_NE))

    def silu(self, input_NE: Tensor) -> Tensor:
        if self.adapter is not None:
            return silu(self(input_NE))
        out: Tensor = LINEAR(input_NE, self.weight, self.bias, "swish", [], "")
        return out

    def times(self, input_NE: Tensor, other: Tensor) -> Tensor:
        if self.adapter is not None:
            return self(input_NE).mul_(other)
        out: Tensor = LINEAR_WITH(input_NE, other, self.weight, self.bias, "mul")
        return out

    def plus(self, input_NE: Tensor, other: Tensor) -> Tensor:
        """Adds to `other`, which may be changed."""
        if self.adapter is None and other.dtype == input_NE.dtype:
            out: Tensor = LINEAR_WITH(input_NE, other, self.weight, self.bias, "add")
            return out
        return other.add_(self(input_NE))

    def _adapted(self, input_NE: Tensor) -> Tensor:
        assert self.adapter is not None
        down, up = self.adapter
        out: Tensor = torch.nn.functional.linear(torch.nn.functional.linear(input_NE, down), up)
        return out


class Layer(NamedTuple):
    number: int
    norm: Norm
    qkv: Matmul
    head_norm: Norm | None  # of queries and keys, weights [H + K, D]
    out: Matmul
    norm_after: Norm
    gate: Matmul
    up: Matmul
    down: Matmul
    window: int | None
    last: bool


@dataclass
class Plain:
    """A network's layers, in their order, and what stands before and behind them."""

    layers: Iterable[Layer]
    norm: Norm
    head: Matmul
    embedding: Tensor
    rotary: Any
    heads: int
    key_heads: int
    width: int
    dtype: torch.dtype  # of matmuls

    def logits(self, ids_N: Tensor, positions_N: Tensor, attend: Attend, chosen: Tensor | None = None) -> Tensor:
        """Returns logits [N, V], or those of the chosen tokens."""
        with torch.autocast("cpu", enabled=False):
            hidden_NE = embedding(ids_N, self.embedding)
            turns = self._turns(hidden_NE, positions_N)
            for layer in self.layers:
                hidden_NE = self._layer(layer, hidden_NE, turns, attend, chosen if layer.last else None)
            return self.head(self.norm(hidden_NE, self.dtype))

    def _layer(
        self, layer: Layer, hidden_NE: Tensor, turns: Tensor, attend: Attend, chosen: Tensor | None = None
    ) -> Tensor:
        """Returns hidden states after a layer: of all tokens, or of the chosen ones."""
        qkv = layer.qkv(layer.norm(hidden_NE, self.dtype)).view(len(hidden_NE), -1, self.width)
        turned, value_NKD = qkv.split_with_sizes((self.heads + self.key_heads, self.key_heads), 1)
        turned = turned.float()
        if layer.head_norm is not None:
            turned = layer.head_norm(turned, self.dtype).float()
        pairs = torch.view_as_complex(turned.view(len(turned), -1, self.width // 2, 2))
        turned = torch.view_as_real(pairs * turns).view(turned.shape)
        query_NHD, key_NKD = turned.split_with_sizes((self.heads, self.key_heads), 1)
        seen = attend(layer.number, query_NHD, key_NKD, value_NKD, layer.window)
        if chosen is not None:
            seen, hidden_NE = seen[chosen], hidden_NE[chosen]
        hidden_NE = layer.out.plus(seen, hidden_NE)
        input_NE = layer.norm_after(hidden_NE, self.dtype)
        return layer.down.plus(layer.up.times(input_NE, layer.gate.silu(input_NE)), hidden_NE)

    def _turns(self, hidden_NE: Tensor, positions_N: Tensor) -> Tensor:
        """Returns complex rotary factors [N, H + K, D / 2]. Those of queries are scaled."""
        cos, sin = self.rotary(hidden_NE, positions_N[:, None])
        half = self.width // 2
        turns = torch.complex(cos[..., :half].float(), sin[..., :half].float())
        return torch.cat(
            [(turns * self.width**-0.5).expand(-1, self.heads, -1), turns.expand(-1, self.key_heads, -1)], 1
        )


def packed_layers(network: Any) -> Plain | None:
    """Returns a network's packed layers while `rollout_weights` holds them."""
    return getattr(network, PACKED, None)


@contextmanager
def rollout_weights(network: Any) -> Iterator[None]:
    """Keeps packed weights while answers are sampled: of plain layers, or of every `Linear`."""
    narrow = torch.is_autocast_enabled("cpu")
    plain = plain_layers(network, narrow=narrow) if getattr(network, TRIED, False) else None
    if plain is None:
        with packed_weights(network):
            yield
        return
    plain.layers = list(plain.layers)
    object.__setattr__(network, PACKED, plain)
    try:
        yield
    finally:
        object.__delattr__(network, PACKED)


def plain_layers(network: Any, *, narrow: bool) -> Plain | None:
    """Finds a network's layers if all are plain. They are packed one by one as they are taken.

    `narrow`: matmuls are in bf16, as under autocast.
    """
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    core, config = inner.base_model, inner.config
    kinds = {type(layer).__name__.removeprefix("FSDP") for layer in getattr(core, "layers", [])}  # FSDP2 makes classes
    if not can_pack(narrow=narrow) or len(kinds) != 1 or not kinds <= set(PLAIN_LAYERS) or windows(config) is None:
        return None
    if config.hidden_act != "silu" or type(core.embed_tokens) is not torch.nn.Embedding:
        return None
    weight = core.embed_tokens.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or type(core.norm) is not RmsNorm:
        return None
    if not all(_known(module) for layer in core.layers for module in _parts(layer)) or not _known(inner.lm_head):
        return None
    dtype = torch.bfloat16 if narrow else torch.float32
    attention = core.layers[0].self_attn
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    return Plain(
        layers=_Layers(core.layers, windows(config), dtype, heads, key_heads),
        norm=_norm(core.norm),
        head=_matmul([inner.lm_head], dtype),
        embedding=weight.detach(),
        rotary=core.rotary_emb,
        heads=heads,
        key_heads=key_heads,
        width=attention.head_dim,
        dtype=dtype,
    )


class _Layers:
    """Packs a layer when it is taken."""

    def __init__(self, modules: Any, of_layers: Any, dtype: torch.dtype, heads: int, key_heads: int) -> None:
        self.modules, self.windows, self.dtype = modules, of_layers, dtype
        self.heads, self.key_heads = heads, key_heads

    def __iter__(self) -> Iterator[Layer]:
        for index, module in enumerate(self.modules):
            yield self._packed(index, module)

    def _packed(self, index: int, module: Any) -> Layer:
        own, mlp = module.self_attn, module.mlp
        turned = self.heads + self.key_heads
        order = _paired(turned, self.heads + 2 * self.key_heads, own.head_dim)
        return Layer(
            number=index,
            norm=_norm(module.input_layernorm),
            qkv=_matmul([own.q_proj, own.k_proj, own.v_proj], self.dtype, order),
            head_norm=self._head_norm(own) if hasattr(own, "q_norm") else None,
            out=_matmul([own.o_proj], self.dtype),
            norm_after=_norm(module.post_attention_layernorm),
            gate=_matmul([mlp.gate_proj], self.dtype),
            up=_matmul([mlp.up_proj], self.dtype),
            down=_matmul([mlp.down_proj], self.dtype),
            window=self.windows[index],
            last=index == len(self.modules) - 1,
        )

    def _head_norm(self, own: Any) -> Norm:
        pairs = _paired(1, 1, own.head_dim)
        of_query, of_key = (_norm(module) for module in (own.q_norm, own.k_norm))
        weight = torch.cat(
            [of_query.weight[pairs].expand(self.heads, -1), of_key.weight[pairs].expand(self.key_heads, -1)]
        )
        return Norm(weight, of_query.eps, of_query.share)


def _parts(layer: Any) -> list[Any]:
    own, mlp = layer.self_attn, layer.mlp
    parts = [own.q_proj, own.k_proj, own.v_proj, own.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    return [*parts, layer.input_layernorm, layer.post_attention_layernorm, *_head_norms(own)]


def _head_norms(own: Any) -> list[Any]:
    return [own.q_norm, own.k_norm] if hasattr(own, "q_norm") else []


def _known(module: Any) -> bool:
    """Tells whether this is a linear layer or norm of ours, perhaps with one plain adapter."""
    if hasattr(module, "lora_A"):
        plain = len(module.active_adapters) == 1 and not module.merged and not getattr(module, "lora_variant", None)
        names = [name for name in module.active_adapters if name in module.lora_A]
        return plain and type(module.base_layer) is Linear and not any(module.lora_bias[name] for name in names)
    return type(module) in (Linear, RmsNorm)


def _norm(module: Any) -> Norm:
    weight = module.weight.detach()
    eps, share = weight.new_tensor([module.fused_eps]), 1 / len(weight)
    return Norm(weight + module.offset if module.offset else weight, eps, share)


def _matmul(modules: list[Any], dtype: torch.dtype, order: Tensor | None = None) -> Matmul:
    """Packs layers side by side; `order` sorts their columns."""
    bases = [getattr(module, "base_layer", module) for module in modules]
    weight = torch.cat([base.weight.detach() for base in bases])
    biases = [base.weight.new_zeros(len(base.weight)) if base.bias is None else base.bias.detach() for base in bases]
    bias = None if all(base.bias is None for base in bases) else torch.cat(biases)
    adapter = _adapter(modules)
    if order is not None:
        weight, bias = weight[order], None if bias is None else bias[order]
        adapter = None if adapter is None else (adapter[0], adapter[1][order])
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), ROWS)
    down_up = None if adapter is None else (adapter[0].to(dtype), adapter[1].to(dtype))
    return Matmul(packed, None if bias is None else bias.to(dtype), down_up)


def _adapter(modules: list[Any]) -> tuple[Tensor, Tensor] | None:
    """Joins the layers' adapters: `down` [ranks, E], and `up` with zeros between layers."""
    downs, ups = [], []
    for module in modules:
        base = getattr(module, "base_layer", module)
        names = [name for name in getattr(module, "active_adapters", []) if name in module.lora_A]
        if not names or module.disable_adapters:
            ups.append(base.weight.new_zeros(base.out_features, 0))
            continue
        downs.append(module.lora_A[names[0]].weight.detach().float())
        ups.append(module.lora_B[names[0]].weight.detach().float() * module.scaling[names[0]])
    return (torch.cat(downs), torch.block_diag(*ups)) if downs else None


def _paired(turned: int, heads: int, width: int) -> Tensor:
    """Returns the order of columns that puts the two numbers of a rotation next to each other.

    Queries and keys have the same order, so their products are unchanged. Heads from `turned` on
    (values) keep their order.
    """
    own = torch.arange(width).view(2, -1).T.reshape(-1)
    return torch.cat([head * width + (own if head < turned else torch.arange(width)) for head in range(heads)])
