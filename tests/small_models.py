"""Small random models as `save_pretrained` writes them, with chat templates that have their families' traits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ehrmind.config import Model, TinyModel
from ehrmind.engines.local.engine import LocalEngine, open_engine
from ehrmind.engines.local.tiny import build_tiny
from ehrmind.prompts import gold_response, messages
from ehrmind.sources.made_up import made_up_cases
from ehrmind.types import Case
from tests.medcalc_cases import SHORT

# Gemma's has no system role and says "model" for the assistant; Qwen3's thinking variants open the thought themselves
TEMPLATES = {
    "llama": None,
    "qwen3": (
        "{% for m in messages %}{{ '<|user|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
    ),
    "gemma3": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{{ '<|user|>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>model\n' }}{% endif %}"
    ),
}
FAMILIES = tuple(TEMPLATES)
WINDOW = 16  # much shorter than the prompts


def cases(n: int = 14, seed: int = 9) -> list[Case]:
    return made_up_cases(n, seed, "train", **SHORT)


def small_model(folder: Path, family: str, *, seed: int = 0, window: int | None = WINDOW) -> Path:
    sizes: dict[str, Any] = {"hidden": 32, "layers": 3, "heads": 2, "vocabulary": 400, "context": 1024}
    shape = TinyModel(family=family, sliding_window=window, **sizes)  # type: ignore[arg-type]
    text = [messages(case)[0].content + gold_response(case) for case in cases(50)]
    build_tiny(shape, text, folder, seed=seed)
    template = TEMPLATES[family]
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def small_engine(folder: Path, family: str, **settings: object) -> LocalEngine:
    path = small_model(folder, family)
    return open_engine(Model(name=str(path), **settings), path, rows=16)  # type: ignore[arg-type]
