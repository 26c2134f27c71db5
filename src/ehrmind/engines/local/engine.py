"""Opens a model directory as an Engine: weights, tokenizer, chat template, stop tokens.

Every directory passes the gate (`gate.py`) first: weights are safetensors, and no code of the model's own is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ehrmind.config import Decoding, Model, Optimiser, Rlvr
from ehrmind.engines.local.adapters import with_adapter
from ehrmind.engines.local.chat import Chat, named_ends, open_chat, plain_generation
from ehrmind.engines.local.chat_template import pinned
from ehrmind.engines.local.gate import admit_tokenizer
from ehrmind.engines.local.opening import OURS_ALONE, open_network, opening, refuse_incomplete, usable_tokens
from ehrmind.engines.local.quantised import keeps_from_learning
from ehrmind.engines.local.ropes import switch_of
from ehrmind.engines.local.template_probe import BYTES, SECONDS, is_bounded
from ehrmind.engines.local.trial import try_learning, try_rows
from ehrmind.hub import bar_with_an_end, clear_errors, endpoint
from ehrmind.types import Completion, InputError, Message, Prompt


@dataclass
class LocalEngine:
    """One model on one device. `rows` answers are decoded at once, with keys and values of `tokens` at most; `shared` says that a
    prompt is computed once for its whole group. Batches are computed in `shards`, whoever holds them; `strategy` is how workers learn."""

    network: Any  # transformers.PreTrainedModel, or peft's wrapper of one
    tokenizer: Any
    settings: Model
    rows: int
    tokens: int
    shared: bool
    chat: Chat
    stop_ids: frozenset[int]
    folder: Path
    shards: int = 1
    strategy: str = "ddp"
    places: int = 1 << 62  # of token ids, in the model's embeddings
    cannot_learn: str | None = None  # why, where it cannot
    seed: int = 0  # of whatever the network draws while it learns

    @property
    def context(self) -> int:
        return int(getattr(self.network.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)

    @property
    def pad_id(self) -> int:
        """A padding token that was added to a tokenizer and never to its model has no place there; any other does as well."""
        pad_id = self.tokenizer.pad_token_id
        return int(self.chat.end_id if pad_id is None or pad_id >= self.places else pad_id)

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        prompt = self.chat.prompt(messages)
        self._refuse_without_place(prompt.token_ids)
        return prompt

    def _refuse_without_place(self, ids: Sequence[int]) -> None:
        if (beyond := max(ids, default=0)) >= self.places:
            token = self.tokenizer.convert_ids_to_tokens(beyond)
            raise InputError(
                f"A text holds '{token}', a token that {self.folder.name}'s tokenizer has and its embeddings do not; "
                "take it out of the text or out of the tokenizer's added tokens."
            )

    def response_tokens(self, text: str, prompt: Prompt, *, own: bool = False) -> tuple[int, ...]:
        ids = self.chat.response_tokens(text, prompt, own=own)
        self._refuse_without_place(ids)
        return ids

    def tool_turn(self, reply: str, *, thinks: bool = True) -> Prompt:
        return self.chat.tool_turn(reply, thinks=thinks)

    def decode(self, ids: Sequence[int]) -> str:
        return self.chat.decode(ids, self.stop_ids)

    def sample(
        self, prompts: Sequence[Prompt], keys: Sequence[int], members: int, decoding: Decoding
    ) -> list[list[Completion]]:
        from ehrmind.engines.local.sampler import sample

        return sample(self, prompts, keys, members, decoding)

    def option_logprobs(self, asked: Sequence[tuple[Prompt, str, Sequence[str]]]) -> list[list[float]]:
        """Log-probabilities of each option as what comes after (prompt, text begun)."""
        from ehrmind.engines.local.fsdp import whole
        from ehrmind.engines.local.options import option_logprobs
        from ehrmind.engines.local.sharding import in_shards

        lengths = [len(prompt.token_ids) for prompt, _, _ in asked]
        with whole(self.network):
            return in_shards(lengths, self.shards, lambda items: option_logprobs(self, [asked[item] for item in items]))

    def autocast(self) -> Any:
        """How sampler and learner both compute, so that they see the same log-probabilities."""
        return torch.autocast(self.network.device.type, torch.bfloat16) if self.settings.autocast else nullcontext()

    def learner(
        self, optimiser: Optimiser, total_steps: int, *, rlvr: Rlvr | None = None, decoding: Decoding | None = None
    ) -> Any:
        from ehrmind.engines.local.learner import LocalLearner

        self.refuse_to_learn()
        return LocalLearner(self, optimiser, total_steps, rlvr=rlvr, decoding=decoding)

    def refuse_to_learn(self) -> None:
        """Raises InputError where the model can be used, but not trained."""
        if self.cannot_learn is not None:
            raise InputError(
                f"{self.folder.name} can be scored but not trained: {self.cannot_learn}; choose another model, or arms: [base]."
            )

    def save(self, folder: Path) -> dict[str, Any]:
        """An ordinary `transformers` directory, adapters merged, proven to be this model; says how. Raises InputError."""
        from ehrmind.engines.local.saving import save_model

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
    """Load a model directory. Raises InputError for anything that is not a safe, chat-capable causal LM."""
    refuse_unusable(settings, folder)
    device = device_of(settings)
    network = open_network(settings, folder)
    tokenizer = open_tokenizer(folder, settings.date)
    with opening(folder):
        network = network.to(device)
    shared = _made_fast(network)
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
    )
    saved = network if settings.lora is None else network.get_base_model()
    saved.generation_config = plain_generation(chat, engine.pad_id)  # what is saved says how answers were sampled here
    tried: dict[str, Any] = {"shared": shared, "pad_id": engine.pad_id, "autocast": engine.autocast()}
    engine.seed = seed
    engine.cannot_learn = keeps_from_learning(network) or try_learning(engine.network, folder.name, **tried)
    return engine


def refuse_unusable(settings: Model, folder: Path) -> None:
    """Checks a directory and a device before any weight is read. Raises InputError."""
    refuse_incomplete(folder)
    device_of(settings)


def open_tokenizer(folder: Path, day: date | None = None) -> Any:
    """A model's tokenizer with its chat template, which writes `day` (today) for today. Raises InputError where there is none."""
    tokenizer = as_it_is(folder)
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"{folder.name} has no chat template; use an instruction-tuned model, or add `chat_template.jinja` to it."
        )
    if isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = pinned(tokenizer.chat_template, day or date.today())
    return tokenizer


def as_it_is(folder: Path) -> Any:
    """A directory's tokenizer with the template that lies there. Raises InputError where the gate refuses it, or the template has no
    bounds."""
    from transformers import AutoTokenizer

    admit_tokenizer(folder)
    with opening(folder, "its tokenizer"):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **OURS_ALONE)
        tokenizer.decode(
            tokenizer("Weight: 50 kg", add_special_tokens=False)["input_ids"]
        )  # some faults show in use alone
        _ = len(tokenizer), tokenizer.all_special_ids, tokenizer.added_tokens_decoder
    said = tokenizer.chat_template
    for template in said.values() if isinstance(said, dict) else [said]:
        if isinstance(template, str) and not is_bounded(template):
            raise InputError(
                f"The chat template of {folder.name} takes more than {SECONDS} seconds or {BYTES >> 30} GiB for a short conversation; use "
                "the model's own template."
            )
    return tokenizer


def render_prompt(tokenizer: Any, messages: Sequence[Message], arguments: Mapping[str, Any]) -> Prompt:
    """The prompt of a conversation by a tokenizer alone, for those who have no engine. Raises InputError."""
    return open_chat(tokenizer, frozenset(), arguments).prompt(messages)


def device_of(settings: Model) -> str:
    """Returns `cuda` or `cpu` by the settings. Raises InputError if it is not here."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "model.device is cuda, but torch finds no CUDA device here; set model.device=auto or cpu, or see `ehrmind doctor`."
        )
    if settings.device != "auto":
        return settings.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def locate(settings: Model, *, online: bool) -> Path:
    """The directory of `model.name`: itself, or the hub's cache (downloaded where going online is allowed)."""
    assert settings.name is not None
    folder = Path(settings.name)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    asked: dict[str, Any] = {"revision": settings.revision, "endpoint": endpoint(), "allow_patterns": patterns}
    try:
        if online:
            with clear_errors(f"The model '{settings.name}'"):
                return Path(snapshot_download(settings.name, tqdm_class=bar_with_an_end(), **asked))
        return Path(snapshot_download(settings.name, local_files_only=True, **asked))
    except HFValidationError:
        raise InputError(
            f"model.name={settings.name} is no directory, nor the name of a model on the hub; check the path."
        ) from None
    except (LocalEntryNotFoundError, OSError) as error:
        where = "neither a directory nor in the hub's cache"
        raise InputError(
            f"model.name={settings.name} is {where} ({type(error).__name__}); allow its download with data.online=true."
        ) from None


def _made_fast(network: Any) -> bool:
    """Its layers where ours are faster; whether prompts are shared."""
    from ehrmind.engines.local.norms import use_fused_norms
    from ehrmind.engines.local.products import use_own_linear
    from ehrmind.engines.local.sharing import share_prompts

    use_own_linear(network)
    use_fused_norms(network)
    return share_prompts(network)
