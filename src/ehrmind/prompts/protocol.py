"""The answer protocol, in the one room that owns its tags.

An answer is one `<think>…</think>`, then one `<answer>{json}</answer>`. If a recipe lets the model
call a tool, a turn may end with `<tool>{json}</tool>` instead; the reply comes as the next turn.

`wrap` writes the protocol and `parsing.parse` reads it. Both take the tags from here, so a prompt
can never ask for something the parser does not accept. Foreign text in a prompt or gold response
goes through `neutral` first, so a note cannot forge a turn, a thought or an answer, whatever model
reads it. Markers of a single tokenizer are neutralised where the tokenizer is known
(`engines/local/markers.py`).
"""

from __future__ import annotations

import re

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
ANSWER_OPEN = "<answer>"
ANSWER_CLOSE = "</answer>"
TOOL_OPEN = "<tool>"
TOOL_CLOSE = "</tool>"
TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE, TOOL_OPEN, TOOL_CLOSE)

# Text shaped like a tag or like a chat template's special token: <think>, </s>, <|im_end|>,
# <start_of_turn>. Then turn markers of other shapes: [INST] (Mistral), [|assistant|] (EXAONE),
# [gMASK] (GLM), ]~b] (MiniMax), "### Response:" (Alpaca).
_TAG = re.compile(
    r"<(?=[A-Za-z/|｜!][^<>\s]{0,60}>)"
    r"|\[(?=\|[^\[\]\s]{1,60}\|\])"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|MODEL_SETTINGS|THINK"
    r"|gMASK|sMASK)\])"
    r"|\](?=~!?b[\[\]])|\[(?=e~\[)"
    r"|###(?= (?:Instruction|Response|System|User|Assistant|Human):)"
)
_FIRST = re.compile(r"[<\[\]]|###")  # the start of each pattern, for speed: most texts have none


def wrap(thinking: str | None, answer_json: str) -> str:
    """Writes a thought and an answer in the protocol; `thinking=None` leaves the thought out."""
    answer = f"{ANSWER_OPEN}{answer_json}{ANSWER_CLOSE}"
    return answer if thinking is None else f"{THINK_OPEN}{thinking}{THINK_CLOSE}\n{answer}"


def neutral(text: str) -> str:
    """Puts a space inside everything that looks like a tag, so it reads the same but has no
    effect."""
    return _TAG.sub(lambda found: f"{found.group()} ", text) if _FIRST.search(text) else text
