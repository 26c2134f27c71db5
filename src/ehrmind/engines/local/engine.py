"""Opens a model directory as an Engine: weights, tokenizer, chat template, stop tokens.

Only safetensors are read and no code of the model's own is run: a directory that holds either is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError

from ehrmind.config import Decoding, Model, Optimiser, Rlvr
from ehrmind.engines.local.dropout import as_it_was
from ehrmind.engines.local.opening import OURS_ALONE, open_network, opening, usable_tokens
from ehrmind.engines.local.ropes import switch_of
from ehrmind.engines.local.trial import try_learning, try_rows
from ehrmind.files import written_whole
from ehrmind.hub import bar_with_an_end, clear_errors, endpoint
from ehrmind.types import Completion, InputError, Message, Prompt
from ehrmind.world import current

CODE, PICKLES = {".py"}, {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
SENTINEL = "0"
CALL = "the-call-of-a-tool"  # stands for the assistant's words where only what comes after them is wanted
OPENED_THINKING = re.compile(r"<think>\s*\Z")


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
    stop_ids: frozenset[int]
    end_id: int
    folder: Path
    template: dict[str, Any] = field(default_factory=dict)
    shards: int = 1
    strategy: str = "ddp"
    places: int = 1 << 62  # of token ids, in the model's embeddings
    cannot_learn: str | None = None  # why, where it cannot

    @property
    def context(self) -> int:
        return int(getattr(self.network.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)

    @property
    def pad_id(self) -> int:
        """A padding token that was added to a tokenizer and never to its model has no place there; any other does as well."""
        pad_id = self.tokenizer.pad_token_id
        return int(self.end_id if pad_id is None or pad_id >= self.places else pad_id)

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        prompt = render_prompt(self.tokenizer, messages, self.template)
        self._refuse_without_place(prompt.token_ids)
        return prompt

    def _refuse_without_place(self, ids: Sequence[int]) -> None:
        if (beyond := max(ids, default=0)) >= self.places:
            token = self.tokenizer.convert_ids_to_tokens(beyond)
            raise InputError(
                f"A text holds '{token}', a token that {self.folder.name}'s tokenizer has and its embeddings do not; "
                "take it out of the text or out of the tokenizer's added tokens."
            )

    def response_tokens(self, text: str, prompt: Prompt) -> tuple[int, ...]:
        """What a model should write after `prompt` to say `text`: the template's opening left off, the end of turn put on."""
        if prompt.opening:
            text = text.lstrip().removeprefix("<think>").lstrip("\n")
        ids = (*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.end_id)
        self._refuse_without_place(ids)
        return ids

    def tool_turn(self, reply: str) -> Prompt:
        """A template that knows no tool gets the reply as the user's turn."""
        begun = [Message("user", SENTINEL), Message("assistant", CALL)]
        try:
            text = _render(self.tokenizer, [*begun, Message("tool", reply)], self.template)
        except Exception:  # noqa: BLE001  # jinja's, raised by the template itself in words of its own
            text = ""
        if reply not in text.partition(CALL)[2]:
            text = _render(self.tokenizer, [*begun, Message("user", reply)], self.template)
        tail = text.partition(CALL)[2]
        ids = self.tokenizer(tail, add_special_tokens=False)["input_ids"]
        opened = OPENED_THINKING.search(tail)
        return Prompt(tuple(ids[1:] if ids and ids[0] == self.end_id else ids), opened.group() if opened else "")

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids up to the stop token. Special tokens inside stay visible: they are part of what was written."""
        end = next((place for place, token in enumerate(ids) if token in self.stop_ids), len(ids))
        return str(self.tokenizer.decode(list(ids[:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def sample(self, prompts: Sequence[Prompt], keys: Sequence[int], members: int, decoding: Decoding) -> list[list[Completion]]:
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

    def learner(self, optimiser: Optimiser, total_steps: int, *, rlvr: Rlvr | None = None, decoding: Decoding | None = None) -> Any:
        from ehrmind.engines.local.learner import LocalLearner

        self.refuse_to_learn()
        return LocalLearner(self, optimiser, total_steps, rlvr=rlvr, decoding=decoding)

    def refuse_to_learn(self) -> None:
        """Raises InputError where the model can be used, but not trained."""
        if self.cannot_learn is not None:
            raise InputError(
                f"{self.folder.name} can be scored but not trained: {self.cannot_learn}; choose another model, or arms: [base]."
            )

    def save(self, folder: Path) -> None:
        """An ordinary `transformers` directory, adapters merged, written beside and renamed, by the first worker."""
        from ehrmind.engines.local.fsdp import full_weights

        network = self.network
        if self.settings.lora is not None:
            from copy import deepcopy

            network = deepcopy(network).merge_and_unload()
        weights = full_weights(network)

        def write() -> None:
            with written_whole(folder) as partial, as_it_was(network):
                network.save_pretrained(partial, safe_serialization=True, state_dict=weights)
                self.tokenizer.save_pretrained(partial)

        current().from_first(write)


def open_engine(
    settings: Model, folder: Path, *, rows: int, tokens: int = 1 << 18, seed: int = 0, shards: int = 1, strategy: str = "ddp"
) -> LocalEngine:
    """Load a model directory. Raises InputError for anything that is not a safe, chat-capable causal LM."""
    refuse_unsafe(folder)
    device = device_of(settings)
    network = open_network(settings, folder)
    tokenizer = open_tokenizer(folder)
    with opening(folder):
        network = network.to(device)
    shared = _made_fast(network)
    pad_id = tokenizer.pad_token_id
    if not shared or switch_of(network) is not None:
        try_rows(network, folder.name, 0 if pad_id is None or pad_id >= network.get_input_embeddings().weight.shape[0] else pad_id)
    if settings.lora is not None:
        network = _with_lora(network, settings, seed)
    end_id, stop_ids = end_of_turn(tokenizer, getattr(network.generation_config, "eos_token_id", None), settings.template)
    places = usable_tokens(network, tokenizer, [end_id], folder)
    template = dict(settings.template)
    engine = LocalEngine(
        network.to(device).eval(), tokenizer, settings, rows, tokens, shared, stop_ids, end_id, folder, template, shards, strategy, places
    )
    tried: dict[str, Any] = {"shared": shared, "pad_id": engine.pad_id, "autocast": engine.autocast()}
    engine.cannot_learn = try_learning(engine.network, folder.name, **tried)
    return engine


def open_tokenizer(folder: Path) -> Any:
    """A model's tokenizer with its chat template. Raises InputError where there is none."""
    from transformers import AutoTokenizer

    with opening(folder, "its tokenizer"):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **OURS_ALONE)
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(f"{folder.name} has no chat template; use an instruction-tuned model, or add `chat_template.jinja` to it.")
    return tokenizer


def device_of(settings: Model) -> str:
    """Raises InputError where it is not here."""
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
    except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
        where = "neither a directory nor in the hub's cache"
        raise InputError(
            f"model.name={settings.name} is {where} ({type(error).__name__}); allow its download with data.online=true."
        ) from None


def refuse_unsafe(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise InputError(
                f"{folder} holds an adapter without the model that it changes; merge it into one (`ehrmind export model --merge`), "
                "and name what that wrote."
            )
        raise InputError(f"{folder} is no model directory: it has no config.json{_held_instead(folder)}.")
    for path in sorted(folder.iterdir()):
        if path.suffix in CODE:
            raise InputError(f"{folder.name} holds code of its own ({path.name}), which is never run; remove it or use another model.")
        if path.suffix in PICKLES:
            raise InputError(f"{folder.name} holds pickled weights ({path.name}); convert them to safetensors and remove the file.")
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder.name} holds no safetensors weights{_held_instead(folder)}; get the model in safetensors.")


def _held_instead(folder: Path) -> str:
    found = sorted(path.name for path in folder.glob("*.gguf"))
    return f", but GGUF ({found[0]}), which is not read" if found else ""


def _made_fast(network: Any) -> bool:
    """Its layers where ours are faster; whether prompts are shared."""
    from ehrmind.engines.local.norms import use_fused_norms
    from ehrmind.engines.local.products import use_own_linear
    from ehrmind.engines.local.sharing import share_prompts

    use_own_linear(network)
    use_fused_norms(network)
    return share_prompts(network)


def _with_lora(network: Any, settings: Model, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    assert settings.lora is not None
    lora = settings.lora
    torch.manual_seed(seed)
    asked = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets, task_type="CAUSAL_LM")
    try:
        return get_peft_model(network, asked)
    except (ValueError, NotImplementedError, TypeError) as error:  # no layer of that name, or none that can be adapted
        said = " ".join(str(error).split())[:300].rstrip(".")
        raise InputError(f"model.lora.targets does not fit {type(network).__name__}: {said}.") from None


def render_prompt(tokenizer: Any, messages: Sequence[Message], template: dict[str, Any]) -> Prompt:
    """Tokens of the conversation through the tokenizer's own template, ready for the assistant's turn."""
    text = _render(tokenizer, messages, template)
    opened = OPENED_THINKING.search(text)
    return Prompt(tuple(tokenizer(text, add_special_tokens=False)["input_ids"]), opened.group() if opened else "")


def _render(tokenizer: Any, messages: Sequence[Message], template: dict[str, Any], *, generation: bool = True) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation, **template))
    except (TemplateError, ValueError, TypeError, LookupError, AttributeError) as error:
        said = " ".join(str(error).split())[:200].rstrip(".")
        roles = ", ".join(message.role for message in messages)
        raise InputError(
            f"The model's chat template cannot render a conversation of {roles} ({said}); use a model whose template takes it, or write one "
            "into chat_template.jinja."
        ) from None


def end_of_turn(tokenizer: Any, more: Any, template: dict[str, Any]) -> tuple[int, frozenset[int]]:
    """The token a template puts after the assistant's words, and every token that ends an answer; `more` are the generation config's."""
    conversation = [Message("user", SENTINEL), Message("assistant", SENTINEL)]
    tail = _render(tokenizer, conversation, template, generation=False).rpartition(SENTINEL)[2].lstrip()
    after = tokenizer(tail, add_special_tokens=False)["input_ids"] if tail else []
    end_id = int(after[0]) if after else tokenizer.eos_token_id
    if end_id is None:
        raise InputError("The model's tokenizer names no end-of-sequence token and its chat template ends a turn with nothing.")
    ids = {end_id, tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])} - {None}
    return end_id, frozenset(ids)
