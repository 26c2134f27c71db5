"""Opens a model directory as an Engine, and puts sampling, training and saving together.

Every directory passes the gate (`opening/gate.py`) first: weights are safetensors, and no code that
a model brings is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ehrmind.config import Decoding, Model, Optimiser, Rlvr
from ehrmind.engines import Proof
from ehrmind.engines.local.chat.conversation import named_ends, open_chat, plain_generation
from ehrmind.engines.local.forward.feed_forward import use_own_feed_forward
from ehrmind.engines.local.forward.matmul import use_own_linear
from ehrmind.engines.local.forward.norms import use_fused_norms
from ehrmind.engines.local.forward.rotary import switch_of
from ehrmind.engines.local.forward.sharing import share_prompts
from ehrmind.engines.local.forward.trial import try_learning, try_rows
from ehrmind.engines.local.model import LocalModel, device_of
from ehrmind.engines.local.opening.adapters import with_adapter
from ehrmind.engines.local.opening.config import opening, refuse_incomplete
from ehrmind.engines.local.opening.network import open_network, usable_tokens
from ehrmind.engines.local.opening.quantised import keeps_from_learning
from ehrmind.engines.local.opening.tokenizer import open_tokenizer
from ehrmind.engines.local.sampling.label_logprobs import label_logprobs
from ehrmind.engines.local.sampling.plain_trial import try_plain_layers
from ehrmind.engines.local.sampling.sampler import sample
from ehrmind.engines.local.saving.saved_model import save_model
from ehrmind.engines.local.training.learner import LocalLearner
from ehrmind.types import Completion, Message, Prompt


class LocalEngine(LocalModel):
    """An opened model with the methods of an Engine."""

    def sample(
        self, prompts: Sequence[Prompt], keys: Sequence[int], group_size: int, decoding: Decoding
    ) -> list[list[Completion]]:
        return sample(self, prompts, keys, group_size, decoding)

    def label_logprobs(self, asked: Sequence[tuple[Prompt, str, Sequence[str]]]) -> list[list[float]]:
        return label_logprobs(self, asked)

    def learner(
        self, optimiser: Optimiser, total_steps: int, *, rlvr: Rlvr | None = None, decoding: Decoding | None = None
    ) -> LocalLearner:
        self.refuse_to_learn()
        return LocalLearner(self, optimiser, total_steps, rlvr=rlvr, decoding=decoding)

    def save(self, folder: Path) -> Proof:
        """Writes a `transformers` directory, adapters merged, and proves it. Raises InputError."""
        return save_model(self, folder)


def open_engine(
    settings: Model,
    folder: Path,
    *,
    rows: int,
    tokens: int = 1 << 18,
    seed: int = 0,
    shards: int = 1,
    strategy: str = "ddp",
) -> LocalEngine:
    """Opens a model directory.

    Raises InputError for anything but a safe causal language model with a chat template.
    """
    refuse_unusable(settings, folder)
    device = device_of(settings)
    network = open_network(settings, folder)
    tokenizer = open_tokenizer(folder, settings.date)
    with opening(folder):
        network = network.to(device)
    use_own_linear(network)
    use_own_feed_forward(network)
    use_fused_norms(network)
    shared = share_prompts(network)
    if shared:
        try_plain_layers(network)
    if not shared or switch_of(network) is not None:
        try_rows(network, folder.name)
    if settings.lora is not None:
        network = with_adapter(network, settings.lora, seed)
    chat = open_chat(tokenizer, named_ends(folder), settings.template)
    places = usable_tokens(network, tokenizer, [chat.end_id], folder)
    engine = LocalEngine(
        network.to(device).eval(),
        tokenizer,
        settings,
        rows,
        tokens,
        shared,
        chat,
        chat.stop_ids,
        folder,
        shards,
        strategy,
        places,
        seed=seed,
    )
    plain = network if settings.lora is None else network.get_base_model()
    plain.generation_config = plain_generation(chat, engine.pad_id)  # a saved model says how it was sampled
    engine.cannot_learn = keeps_from_learning(network) or try_learning(
        engine.network, folder.name, shared=shared, pad_id=engine.pad_id, autocast=engine.autocast()
    )
    return engine


def refuse_unusable(settings: Model, folder: Path) -> None:
    """Checks a directory and a device before any weight is read. Raises InputError."""
    refuse_incomplete(folder)
    device_of(settings)


def render_prompt(tokenizer: Any, messages: Sequence[Message], arguments: Mapping[str, Any]) -> Prompt:
    """Renders a conversation's prompt from a tokenizer, without an engine. Raises InputError."""
    return open_chat(tokenizer, frozenset(), arguments).prompt(messages)
