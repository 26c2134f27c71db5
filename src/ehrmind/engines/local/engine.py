"""Opens a model directory as an Engine: weights, tokenizer, chat template, stop tokens.

Only safetensors are read and no code of the model's own is run: a directory that holds either is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ehrmind.config import Decoding, Model, Optimiser, Rlvr
from ehrmind.files import written_whole
from ehrmind.hub import bar_with_an_end, clear_errors, endpoint
from ehrmind.types import Completion, InputError, Message, Prompt
from ehrmind.world import current

CODE, PICKLES = {".py"}, {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
SENTINEL = "0"
CALL = "the-call-of-a-tool"  # stands for the assistant's words where only what comes after them is wanted
OURS_ALONE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}  # no code of the model's, no network
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

    @property
    def context(self) -> int:
        return int(getattr(self.network.config, "max_position_embeddings", None) or 1 << 30)

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.end_id)

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        return render_prompt(self.tokenizer, messages, self.template)

    def response_tokens(self, text: str, prompt: Prompt) -> tuple[int, ...]:
        """What a model should write after `prompt` to say `text`: the template's opening left off, the end of turn put on."""
        if prompt.opening:
            text = text.lstrip().removeprefix("<think>").lstrip("\n")
        return (*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.end_id)

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

        return LocalLearner(self, optimiser, total_steps, rlvr=rlvr, decoding=decoding)

    def save(self, folder: Path) -> None:
        """An ordinary `transformers` directory, adapters merged, written beside and renamed, by the first worker."""
        from ehrmind.engines.local.fsdp import full_weights

        network = self.network
        if self.settings.lora is not None:
            from copy import deepcopy

            network = deepcopy(network).merge_and_unload()
        weights = full_weights(network)

        def write() -> None:
            with written_whole(folder) as partial:
                network.save_pretrained(partial, safe_serialization=True, state_dict=weights)
                self.tokenizer.save_pretrained(partial)

        current().from_first(write)


def open_engine(
    settings: Model, folder: Path, *, rows: int, tokens: int = 1 << 18, seed: int = 0, shards: int = 1, strategy: str = "ddp"
) -> LocalEngine:
    """Load a model directory. Raises InputError for anything that is not a safe, chat-capable causal LM."""
    from transformers import AutoModelForCausalLM

    refuse_unsafe(folder)
    device = device_of(settings)
    with _opening(folder):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, settings.dtype), use_safetensors=True, output_loading_info=True, **OURS_ALONE
        )
    network, found = loaded
    if missing := sorted(found["missing_keys"]):  # would be random numbers
        raise InputError(f"{folder.name} lacks {len(missing)} of its weights, such as {missing[0]}; get the whole model.")
    tokenizer = open_tokenizer(folder)
    network = network.to(device)
    shared = _made_fast(network)
    if settings.lora is not None:
        network = _with_lora(network, settings, seed)
    end_id, stop_ids = end_of_turn(tokenizer, getattr(network.generation_config, "eos_token_id", None), settings.template)
    template = dict(settings.template)
    return LocalEngine(
        network.to(device).eval(), tokenizer, settings, rows, tokens, shared, stop_ids, end_id, folder, template, shards, strategy
    )


def open_tokenizer(folder: Path) -> Any:
    """A model's tokenizer with its chat template. Raises InputError where there is none."""
    from transformers import AutoTokenizer

    with _opening(folder):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **OURS_ALONE)
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(f"{folder.name} has no chat template; use an instruction-tuned model, or add `chat_template.jinja` to it.")
    return tokenizer


@contextmanager
def _opening(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder.name} cannot be opened as a causal language model: {' '.join(str(error).split())[:300]}") from None


def device_of(settings: Model) -> str:
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
        raise InputError(f"model.name={settings.name} is no directory, nor the name of a model on the hub; check the path.") from None
    except (LocalEntryNotFoundError, OSError) as error:
        where = "neither a directory nor in the hub's cache"
        raise InputError(
            f"model.name={settings.name} is {where} ({type(error).__name__}); allow its download with data.online=true."
        ) from None


def refuse_unsafe(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no model directory: it has no config.json.")
    for path in sorted(folder.iterdir()):
        if path.suffix in CODE:
            raise InputError(f"{folder.name} holds code of its own ({path.name}), which is never run; remove it or use another model.")
        if path.suffix in PICKLES:
            raise InputError(f"{folder.name} holds pickled weights ({path.name}); convert them to safetensors and remove the file.")
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder.name} holds no safetensors weights.")


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
    return get_peft_model(
        network,
        LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets, task_type="CAUSAL_LM"),
    )


def render_prompt(tokenizer: Any, messages: Sequence[Message], template: dict[str, Any]) -> Prompt:
    """Tokens of the conversation through the tokenizer's own template, ready for the assistant's turn."""
    text = _render(tokenizer, messages, template)
    opened = OPENED_THINKING.search(text)
    return Prompt(tuple(tokenizer(text, add_special_tokens=False)["input_ids"]), opened.group() if opened else "")


def _render(tokenizer: Any, messages: Sequence[Message], template: dict[str, Any], *, generation: bool = True) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation, **template))


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
