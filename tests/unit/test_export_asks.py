"""An exported model, opened by those who pass no arguments, is asked and answers as the run asked
and scored it.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ehrmind.config import Decoding, Model
from ehrmind.data import save_cases
from ehrmind.engines.answers import Answer
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.served import EndpointEngine, completion
from ehrmind.export.model import described, export_model
from ehrmind.export.questions import gather
from ehrmind.prompts import messages
from ehrmind.prompts.chat import PromptVariant
from ehrmind.prompts.protocol import neutral
from ehrmind.report.model_card.card import model_card
from ehrmind.runs.predictions import read_predictions
from ehrmind.runs.records import ModelProvenance
from ehrmind.runs.records.exported import ExportedModel
from ehrmind.stages.models import choose
from ehrmind.stages.provenance import advice_of
from ehrmind.types import InputError
from tests.chat_templates import CHATML, CHATML_END
from tests.exported import cases_file
from tests.loopback_endpoint import loopback_endpoint
from tests.new_rows import ehrmind
from tests.served_model import served
from tests.small_models import EVERY_FAMILY, cases, small_model

FAST = ("llama", "qwen3", "gemma3")
SERVED_IN_CI = (
    *FAST,
    "qwen3_5",
    "fp8",
    "tied",
)  # a server takes ten seconds to start; `make test-long` serves every family
GREEDY = Decoding(temperature=0.0, max_new_tokens=16)
ADVICE = {
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 20,
    "repetition_penalty": 3.0,
    "no_repeat_ngram_size": 2,
    "suppress_tokens": [40, 50, 60],
    "bad_words_ids": [[70]],
    "min_new_tokens": 12,
    "min_p": 0.1,
}
WITH_DAY = "{{ '<|user|>' + strftime_now('%d %b %Y') + ('+' if mood == 'fine' else '-') + '<|end|>\n' }}"


def loud_model(folder: Path, family: str) -> Path:
    """With weights so large that each prompt has an answer of its own."""
    from safetensors.torch import load_file, save_file

    small_model(folder, family)
    file = folder / "model.safetensors"
    if family in FAST:
        save_file(
            {n: 12 * w if "proj" in n else w for n, w in load_file(file).items()}, file, metadata={"format": "pt"}
        )
    return folder


def exported(folder: Path, out: Path, **asks: Any) -> Path:
    """As a run exports whose recipe asks so."""
    chosen, about = described(folder)
    said = {"model": {"name": "model", "dtype": "float32"}, "decoding": GREEDY.model_dump(mode="json"), **asks}
    return export_model(replace(chosen, asks=said), about.model_copy(update={"asks": said}), out, card="")


def generated(folder: Path, variant: PromptVariant | None = None) -> list[str]:
    """By `transformers`, with the directory's own defaults."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ends, said = set(network.generation_config.eos_token_id), []
    for case in cases(4):
        turns = [{"role": "user", "content": messages(case, variant=variant)[0].content}]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        written = network.generate(**ids)[0, ids["input_ids"].shape[1] :].tolist()
        end = next((place for place, token in enumerate(written) if token in ends), len(written))
        said.append(tokenizer.decode(written[:end]))
    return said


def scored(folder: Path, variant: PromptVariant | None = None, **settings: Any) -> list[str]:
    """By the engine of a run, as evaluation decodes; without what the template opened."""
    engine = open_engine(Model(name=str(folder), **settings), folder, rows=8)
    prompts = [engine.prompt(messages(case, variant=variant)) for case in cases(4)]
    answers = engine.sample(prompts, [0] * 4, 1, GREEDY)
    return [answer.text.removeprefix(prompt.opening) for prompt, (answer,) in zip(prompts, answers, strict=True)]


@pytest.mark.parametrize(
    "family", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in EVERY_FAMILY]
)
def test_an_exported_model_of_every_family_generates_what_it_was_scored_by(tmp_path: Path, family: str) -> None:
    """As a run leaves it behind, with its makers' advice for sampling in the base's files."""
    base = loud_model(tmp_path / "base", family)
    before = (
        json.loads((base / "generation_config.json").read_text()) if (base / "generation_config.json").is_file() else {}
    )
    (base / "generation_config.json").write_text(json.dumps({**before, **ADVICE}))
    open_engine(Model(name=str(base)), base, rows=8).save(tmp_path / "arm")
    for folder in (base, tmp_path / "arm"):
        out = exported(folder, tmp_path / f"{folder.name} exported")
        kept = json.loads((out / "generation_config.json").read_text())
        assert (
            kept.keys() <= {"do_sample", "eos_token_id", "pad_token_id", "bos_token_id", "max_new_tokens"}
            and not kept["do_sample"]
        )
        assert generated(out) == scored(folder)
    said = advice_of(base)
    assert {name: said[name] for name in ADVICE} == ADVICE and not advice_of(tmp_path / "arm")


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SERVED_IN_CI else pytest.mark.long)
        for name in EVERY_FAMILY
        if name != "gemma3_images"  # the small one has no image processor
    ],
)
def test_a_served_model_of_every_family_answers_as_it_does_here(tmp_path: Path, family: str) -> None:
    """Behind `transformers serve`; its client is `ehrmind predict`."""
    base = loud_model(tmp_path / "base", family)
    if json.loads((base / "config.json").read_text())["model_type"].startswith(
        "qwen"
    ):  # whose thoughts the server looks for behind the header of their own templates
        opens = CHATML_END.replace("assistant\n", "assistant\n<think>\n") if family == "qwen3" else CHATML_END
        (base / "chat_template.jinja").write_text(CHATML + opens)
    out = exported(base, tmp_path / "model")
    save_cases(cases(4), tmp_path / "new.parquet")
    assert ehrmind("predict", out, tmp_path / "new.parquet", "--out", tmp_path / "here") == 0
    with served(out, tmp_path / "log") as url:
        assert ehrmind("predict", out, tmp_path / "new.parquet", "--out", tmp_path / "there", "--endpoint", url) == 0
    here, there = (read_predictions(tmp_path / name)["text"].to_list() for name in ("here", "there"))
    assert list(map(plain, here)) == list(map(plain, there))


def plain(text: str) -> str:
    """Without what a server leaves out or hands out apart: special tokens, spaces around a
    thought."""
    said = re.sub(r"<\|\w+\|>", "", text)
    return neutral(said.removeprefix("<think>").strip()) if said.startswith("<think>") else said.strip()


@pytest.mark.parametrize("think", [True, False])
def test_an_export_renders_what_the_run_rendered_without_being_told(tmp_path: Path, think: bool) -> None:
    """The day, the template's arguments, and a thought that is closed where none is asked for."""
    folder, variant = loud_model(tmp_path / "base", "llama"), PromptVariant(think=think)
    opens = CHATML_END.replace("assistant\n", "assistant\n<think>\n")
    (folder / "chat_template.jinja").write_text(WITH_DAY + CHATML + opens)
    how: dict[str, Any] = {"template": {"mood": "fine"}, "date": "2024-07-26"}
    out = exported(folder, tmp_path / "out", model=how, prompts={"think": think})
    assert generated(out, variant) == scored(folder, variant, template=how["template"], date=date(2024, 7, 26))
    assert generated(out, variant) != scored(folder, variant)
    assert generated(exported(out, tmp_path / "again", model=how, prompts={"think": think}), variant) == generated(
        out, variant
    )


def test_a_template_inside_the_tokenizers_config_gets_its_defaults_too(tmp_path: Path) -> None:
    folder = loud_model(tmp_path / "base", "llama")
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": WITH_DAY + CHATML + CHATML_END}))
    (folder / "chat_template.jinja").unlink()
    how: dict[str, Any] = {"template": {"mood": "fine"}, "date": "2024-07-26"}
    out = exported(folder, tmp_path / "out", model=how)
    assert generated(out) == scored(folder, template=how["template"], date=date(2024, 7, 26))
    assert (
        json.loads((out / "tokenizer_config.json").read_text())["chat_template"]
        == (out / "chat_template.jinja").read_text()
    )


def test_an_ordinary_template_is_exported_as_it_is(tmp_path: Path) -> None:
    folder = loud_model(tmp_path / "base", "llama")
    out = exported(folder, tmp_path / "out", model={"template": {"unknown": 1}, "date": "2024-07-26"})
    assert (out / "chat_template.jinja").read_bytes() == (folder / "chat_template.jinja").read_bytes()


def test_an_exported_model_is_refused_where_a_file_that_decides_answers_was_changed(tmp_path: Path) -> None:
    out = exported(loud_model(tmp_path / "base", "llama"), tmp_path / "out")
    assert choose(out).asks == {} or choose(out)
    (out / "README.md").write_text("my own card")
    choose(out)
    (out / "chat_template.jinja").write_text(CHATML + CHATML_END)
    with pytest.raises(InputError, match=r"is not exported there: chat_template.jinja changed; export it again"):
        choose(out)


def test_the_card_says_what_the_makers_advised_and_that_the_run_used_none_of_it() -> None:
    base = ModelProvenance(name="b", revision=None, sha256={}, generation_advice={"repetition_penalty": 1.1})
    about = ExportedModel(ehrmind="1", arm="sft", restricted=False, base_model=base)
    assert "advised repetition\\_penalty: 1.1, and the run used none of it" in model_card(about, None, name="m")


# Endpoints


def test_a_served_model_is_told_the_templates_arguments_top_k_and_the_words_that_end_a_turn(tmp_path: Path) -> None:
    folder = loud_model(tmp_path / "base", "llama")
    (folder / "chat_template.jinja").write_text("{% if mood %}{{ mood }}{% endif %}" + CHATML + CHATML_END)
    out = exported(folder, tmp_path / "out")
    about = json.loads((out / "ehrmind.json").read_text())
    assert about["stop"] == "<|im_end|>"
    save_cases(cases(1), tmp_path / "new.parquet")
    with loopback_endpoint(lambda _: '<think>so</think>\n<answer>{"answer": 3}</answer>') as server:
        given = [
            "--endpoint",
            server.url,
            "--samples",
            2,
            "decoding.top_k=20",
            "model.template={mood: fine}",
            "decoding.temperature=0.5",
        ]
        assert ehrmind("predict", out, tmp_path / "new.parquet", "--out", tmp_path / "there", *given) == 0
    asked = server.requests[0]
    assert (asked["chat_template_kwargs"], asked["top_k"], asked["stop"]) == ({"mood": "fine"}, 20, ["<|im_end|>"])


@pytest.mark.parametrize(
    ("text", "reasoning", "read"),
    [
        ('so\n</think>\n<answer>{"answer": 3}</answer>', "", '<think>so\n</think>\n<answer>{"answer": 3}</answer>'),
        ('<answer>{"answer": 3}</answer>', "so", '<think>so</think>\n<answer>{"answer": 3}</answer>'),
        (
            '</think>\n<answer>{"answer": 3}</answer>',
            "<think>\nso",
            '<think>\nso</think>\n\n<answer>{"answer": 3}</answer>',
        ),
        (
            '<think>a</think>\n<answer>{"answer": 3}</answer>',
            "native",
            '<think>a</think>\n<answer>{"answer": 3}</answer>',
        ),
        ('<answer>{"answer": 3}</answer>', "", '<answer>{"answer": 3}</answer>'),
    ],
)
def test_a_thought_that_the_prompt_opened_is_read_whole_however_a_server_hands_it_out(
    text: str, reasoning: str, read: str
) -> None:
    assert completion(Answer(text, reasoning)).text == read


def test_an_answer_that_a_server_takes_for_a_thought_is_read_where_no_thought_was_asked_for() -> None:
    """As vLLM's parser of DeepSeek R1 does: what closes no thought is one."""
    said = Answer("", '<answer>{"answer": 3}</answer>')
    assert completion(said, thinks=False).text == said.reasoning
    assert completion(said).text.startswith("<think>")
    assert completion(Answer("", "so"), thinks=False).text == "<think>so"
    case = cases(1)[0]
    client = SimpleNamespace(ask=lambda questions: [said for _ in questions], where="served")
    engine = EndpointEngine(cast(Any, client), refuses_gaps=True)
    prompts = [engine.prompt(messages(case, think)) for think in (False, True)]
    found = engine.sample(prompts, [0, 1], 1, Decoding(temperature=0.0))
    assert [group[0].text.startswith("<think>") for group in found] == [False, True]


def test_tags_that_are_special_tokens_stay_in_what_a_server_hands_out(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = loud_model(tmp_path / "base", "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>", "<answer>", "</answer>"]})
    tokenizer.save_pretrained(folder)
    said = '<think>so</think>\n<answer>{"answer": 3}</answer>'
    ids = tokenizer(said)["input_ids"]
    shown = AutoTokenizer.from_pretrained(exported(folder, tmp_path / "out"))
    assert "<think>" not in tokenizer.decode(ids, skip_special_tokens=True)
    assert shown(said)["input_ids"] == ids and shown.decode(ids, skip_special_tokens=True) == said


def test_other_trainers_are_said_to_leave_out_what_a_run_puts_around_a_template(tmp_path: Path) -> None:
    folder = loud_model(tmp_path / "base", "llama")
    (folder / "chat_template.jinja").write_text(
        WITH_DAY + CHATML + CHATML_END.replace("assistant\n", "assistant\n<think>\n")
    )
    for options, said in (
        ([], ["writes the day"]),
        (["prompts.think=false"], ["writes the day", "prompts end without '\\n</think>\\n\\n'"]),
    ):
        found = gather(cases_file(tmp_path), model=str(folder), overrides=options).not_carried
        assert len(found) == len(said) and all(part in sentence for part, sentence in zip(said, found, strict=True))
    assert {
        one.question.opening
        for one in gather(cases_file(tmp_path), model=str(folder), overrides=["prompts.think=false"]).train
    } == {"<think>\n"}
