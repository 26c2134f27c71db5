"""A real model on two cores: SmolLM2-135M-Instruct, converted from its GGUF file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ehrmind.config import Decoding, Model
from ehrmind.engines.local.engine import LocalEngine, open_engine
from ehrmind.types import Message

QUESTIONS = (
    "What is the capital of France?",
    "Name three symptoms of pneumonia.",
    "A patient weighs 70 kg and is 1.75 m tall. What is the BMI?",
    "Explain in one sentence what hypertension is.",
    "What does the abbreviation ICU mean?",
    "Convert 5.6 mmol/L of glucose to mg/dL.",
    "List the four chambers of the heart.",
    "What is 17 times 23?",
    "Which vitamin is made in the skin by sunlight?",
    "Write a short greeting to a patient.",
    "Is a heart rate of 180 in an adult at rest normal?",
    "What is the difference between a virus and a bacterium?",
    "Give the formula of creatinine clearance by Cockcroft and Gault.",
    "A woman of 34 has a temperature of 39.2 °C. Has she a fever?",
    "Translate 'kidney' into German.",
    "What day follows Tuesday?",
    "Who discovered penicillin?",
    "Order by size: millimetre, metre, kilometre.",
    "Summarise: the patient fell at home, had no fracture, and was discharged.",
    "Answer with yes or no: is insulin a hormone?",
)
NEW_TOKENS = 16
TIE = 1e-4  # nats between the two likeliest tokens


@pytest.fixture(scope="module")
def engine(smollm2: Path) -> LocalEngine:
    return open_engine(Model(name=str(smollm2), device="cpu"), smollm2, rows=len(QUESTIONS))


@torch.no_grad()
def is_tie(network: torch.nn.Module, ids: list[int], one: int, other: int) -> bool:
    """Tells whether the two tokens are the likeliest after `ids`, and equally likely."""
    logprobs = network(input_ids=torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
    values, tokens = logprobs.topk(2)
    return {one, other} == set(tokens.tolist()) and float(values[0] - values[1]) < TIE


@pytest.mark.slow
def test_the_directory_names_its_source_and_ends_answers_at_the_turns_end(smollm2: Path, engine: LocalEngine) -> None:
    note = json.loads((smollm2 / "converted_from.json").read_text())
    assert note["quantisation"] == "Q4_1" and note["left_out"] == []
    assert engine.tokenizer.convert_ids_to_tokens(engine.chat.end_id) == "<|im_end|>"
    assert engine.stop_ids == {engine.chat.end_id} and engine.cannot_learn is None
    assert len(engine.tokenizer.get_added_vocab()) == 17


@pytest.mark.slow
def test_greedy_text_is_that_of_transformers_own_generate(smollm2: Path, engine: LocalEngine) -> None:
    from transformers import AutoModelForCausalLM

    prompts = [engine.prompt([Message("user", question)]) for question in QUESTIONS]
    decoding = Decoding(temperature=0.0, max_new_tokens=NEW_TOKENS)
    answers = engine.sample(prompts, list(range(len(prompts))), 1, decoding)
    network = AutoModelForCausalLM.from_pretrained(smollm2).eval()
    equal = 0
    for prompt, (answer,) in zip(prompts, answers, strict=True):
        given = torch.tensor([prompt.token_ids])
        ids = network.generate(given, max_new_tokens=NEW_TOKENS, do_sample=False)[0, given.shape[1] :].tolist()
        ours = list(answer.segments[0].token_ids)
        part = next((place for place, pair in enumerate(zip(ours, ids, strict=False)) if pair[0] != pair[1]), None)
        if part is None:
            assert len(ours) == len(ids)
            equal += 1
        else:
            assert is_tie(network, [*prompt.token_ids, *ids[:part]], ours[part], ids[part]), prompt.token_ids
    assert equal >= len(QUESTIONS) - 3  # ties are rare


@pytest.mark.slow
def test_prompts_are_shared_in_bfloat16_too(smollm2: Path) -> None:
    assert open_engine(Model(name=str(smollm2), device="cpu", dtype="bfloat16"), smollm2, rows=2).shared
