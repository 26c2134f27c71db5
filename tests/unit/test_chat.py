"""End of an answer, the day a template writes, and what a template opens or leaves out, on models
opened from a directory.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ehrmind.config import Decoding, Model
from ehrmind.engines.local.chat.template_text import literal, pinned, reads_date, with_defaults
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.local.opening.tokenizer import open_tokenizer
from ehrmind.engines.local.saving.hf_export import chat_of, say_how_to_answer
from ehrmind.prompts import gold_response, messages
from ehrmind.prompts.chat import PromptVariant
from ehrmind.types import InputError, Message
from ehrmind.verify.judge import judge
from tests.chat_templates import CHATML, CHATML_END, FAMILIES, cases, chat, tokenizer
from tests.small_models import small_model

DAY = date(2024, 7, 26)


def model(folder: Path, template: str | None = None, **files: dict[str, Any]) -> Path:
    """A small model with a template, and JSON files instead of or in addition to its own."""
    small_model(folder, "llama")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    for name, tree in files.items():
        file = folder / f"{name}.json"
        (file).write_text(json.dumps({**(json.loads(file.read_text()) if name == "config" else {}), **tree}))
    return folder


def test_every_file_that_names_an_end_is_believed_here_and_in_the_export(tmp_path: Path) -> None:
    named: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "config alone": ({"eos_token_id": [2, 3]}, {"do_sample": True}),
        "generation config alone": ({"eos_token_id": None}, {"eos_token_id": [2, 3]}),
        "one each": ({"eos_token_id": 2}, {"eos_token_id": 3}),
        "of a text model inside": ({"eos_token_id": None, "text_config": {"eos_token_id": [2, 3]}}, {}),
    }
    for name, (config, generation) in named.items():
        folder = model(tmp_path / name, config=config, generation_config=generation)
        own = chat_of(folder, {})
        assert own.stop_ids == {2, 3, own.tokenizer.eos_token_id}, name
        say_how_to_answer(folder, {})
        assert set(json.loads((folder / "generation_config.json").read_text())["eos_token_id"]) == own.stop_ids


def test_the_librarys_default_for_the_end_of_sequence_is_no_end_of_this_tokenizers(tmp_path: Path) -> None:
    """Llama's config class says 2, which may be any word."""
    folder = model(tmp_path / "m", generation_config={})
    config = json.loads((folder / "config.json").read_text())
    del config["eos_token_id"]
    (folder / "config.json").write_text(json.dumps(config))
    assert open_engine(Model(name=str(folder)), folder, rows=4).stop_ids == {1}


def test_an_end_of_turn_that_is_plain_text_stops_an_answer_without_stopping_at_its_first_letter() -> None:
    own, case = chat("chatml_in_plain_text", DAY), cases()[0]
    gold = gold_response(case)
    written = (*own.tokens(f"{gold}<|im_end|>\n<|im_start|>user\nNext?"),)
    assert own.end_text == "<|im_end|>" and own.stop_ids == {own.tokenizer.eos_token_id}
    places = [place for place in range(1, len(written) + 1) if own.said_end(written[:place])]
    assert own.decode(written[: places[0]]) == gold and own.decode(written) == gold
    assert not any(own.said_end(own.tokens(gold)[:place]) for place in range(1, len(own.tokens(gold)) + 1))


def test_the_sampler_stops_at_an_end_of_turn_in_plain_text(tmp_path: Path) -> None:
    import torch

    folder = model(tmp_path / "m", CHATML + CHATML_END)
    engine = open_engine(Model(name=str(folder)), folder, rows=4)
    assert engine.chat.end_text == "<|im_end|>"
    says = [*engine.chat.tokens("yes<|im_end|>"), *[7] * 40]
    prompt = engine.prompt(messages(cases()[0]))
    start = len(prompt.token_ids)

    def scripted(_: Any, __: Any, output: Any) -> Any:
        """The next token by how many were written, whatever was read."""
        logits = torch.full_like(output, -10.0)
        for row in range(output.shape[0]):
            logits[row, ..., says[len(written)]] = 10.0
        written.append(0)
        return logits

    written: list[int] = []
    engine.network.lm_head.register_forward_hook(scripted)
    engine.shared = False
    ((answer,),) = engine.sample([prompt], [1], 1, Decoding(temperature=0.0, max_new_tokens=30))
    assert (answer.text, answer.finish_reason) == ("yes", "stop") and start > 0


def test_a_template_that_ends_a_turn_with_nothing_that_can_be_written_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", CHATML + CHATML_END, generation_config={}, config={"eos_token_id": None})
    tree = json.loads((folder / "tokenizer_config.json").read_text())
    tree["eos_token"] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(tree))
    with pytest.raises(
        InputError, match=r"ends a turn with '<\|im_end\|>', which its tokenizer splits into \d+ tokens.*add one"
    ):
        chat_of(folder, {})


# The day


@pytest.mark.parametrize("family", ["llama3", "granite", "channels", "smollm3"])
def test_a_template_that_writes_today_writes_the_day_it_is_pinned_to(family: str) -> None:
    asked = [Message("user", "What?")]
    days = [chat(family, day).prompt(asked).token_ids for day in (DAY, date(2026, 11, 30))]
    made = tokenizer(family)
    assert reads_date(made.chat_template) and days[0] != days[1]
    text = chat(family, DAY).tokenizer.decode(list(days[0]))
    assert any(day in text for day in ("26 Jul 2024", "July 26, 2024", "2024-07-26", "26 July 2024"))
    before = made.apply_chat_template(
        [{"role": "user", "content": "What?"}], tokenize=False, add_generation_prompt=True
    )
    today = chat(family, date.today())
    fresh = today.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What?"}], tokenize=False, add_generation_prompt=True
    )
    assert before == fresh  # nothing else is changed


def test_a_pinned_template_keeps_its_day_when_it_is_saved_and_opened_later(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", "{{ strftime_now('%-d %B %Y') }}|" + CHATML + CHATML_END)
    engine = open_engine(Model(name=str(folder), date=DAY), folder, rows=4)
    engine.save(tmp_path / "saved")
    later = open_tokenizer(tmp_path / "saved", date(2030, 1, 1))
    asked = [{"role": "user", "content": "What?"}]
    assert later.apply_chat_template(asked, tokenize=False).startswith("26 July 2024|")
    assert pinned(later.chat_template, date(2030, 1, 1)) == later.chat_template


def test_a_template_without_a_day_stays_as_it_is() -> None:
    for name in sorted(set(FAMILIES) - {"llama3", "granite", "channels", "smollm3"}):
        assert pinned(FAMILIES[name].template, DAY) == FAMILIES[name].template


# Put around a template for those who pass no arguments


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("think", [True, False])
def test_a_template_with_its_defaults_writes_what_the_run_wrote(family: str, think: bool) -> None:
    import copy

    own, variant = chat(family, DAY), PromptVariant(think=think)
    plain = copy.deepcopy(own.tokenizer)
    plain.chat_template = with_defaults(own.tokenizer.chat_template, own.arguments, own.after_prompt(thinks=think))
    for case in cases()[:4]:
        turns = messages(case, variant=variant)
        asked = [{"role": turn.role, "content": turn.content} for turn in turns]
        assert plain.apply_chat_template(asked, add_generation_prompt=True)["input_ids"] == list(
            own.prompt(turns).token_ids
        )


def test_defaults_are_values_of_any_kind_and_a_caller_may_still_say_otherwise() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    values = {
        "a": None,
        "b": True,
        "c": 1.5,
        "d": "it's \\ \n {% é 😀",
        "e": ["x", {"k": False}],
        "unread": 1,
        "not a name": 2,
    }
    template = "\n{{ [a, b, c, d, e] | tojson }}\n"
    made = with_defaults(template, values, "")
    assert "unread" not in made and "not a name" not in made
    for given in ({}, {"b": 7}):
        (text,), _ = render_jinja_template([[{"role": "user", "content": ""}]], chat_template=made, **given)
        assert json.loads(text) == [None, given.get("b", True), 1.5, values["d"], values["e"]] and text.startswith(
            "\n["
        )
    assert literal({"k": None}) == "{'k': none}"


# Thoughts


def test_a_thought_that_the_template_opens_is_closed_where_none_is_asked_for(tmp_path: Path) -> None:
    opens = CHATML + CHATML_END.replace("assistant\n", "assistant\n<think>\n")
    folder = model(tmp_path / "m", opens)
    engine, case = open_engine(Model(name=str(folder)), folder, rows=4), cases()[0]
    prompt = engine.prompt(messages(case, variant=PromptVariant(think=False)))
    said = prompt.opening + engine.decode(engine.response_tokens(gold_response(case, False), prompt))
    assert judge(case, said, think=False).correct and said == gold_response(case, False)
    assert engine.tokenizer.decode(list(prompt.token_ids)).endswith("<think>\n\n</think>\n\n")
    assert engine.tokenizer.decode(list(engine.tool_turn("7 kg", thinks=False).token_ids)).endswith(
        "<think>\n\n</think>\n\n"
    )
    assert engine.tool_turn("7 kg").opening == engine.prompt(messages(case)).opening == "<think>\n"


def test_a_template_that_leaves_out_the_question_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}<|end|>")
    with pytest.raises(InputError, match="leaves out what is said in a turn; use the model's own template"):
        chat_of(folder, {})
    folder = model(
        tmp_path / "last", "{% for m in messages[-1:] %}{{ '<|user|>' + m['content'] + '<|end|>' }}{% endfor %}"
    )
    shots = [Message("user", "1?"), Message("assistant", "2"), Message("user", "3?")]
    with pytest.raises(InputError, match="leaves out earlier turns"):
        chat_of(folder, {}).prompt(shots)
