"""The answer protocol, in the one room that owns its tags: one `<think>…</think>`, then one `<answer>{json}</answer>`. Where a recipe
lets the model call a tool, a turn may end with `<tool>{json}</tool>` instead; the reply comes as the next turn.

`wrap` writes it and `verify.parse` reads it. Both take the tags from here, so that a prompt can never ask for
what the parser does not accept. Text of others that passes through a prompt or a gold response goes through
`neutral` first, so that a note cannot forge a turn, a thought or an answer, whatever model reads it. What one tokenizer has beyond that
is taken apart where the tokenizer is known (`engines/local/markers.py`).
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

# Anything shaped like a tag or like a chat template's special token: <think>, </s>, <|im_end|>, <start_of_turn>. Then what some families
# write around turns in another shape: [INST] (Mistral), [|assistant|] (EXAONE), [gMASK] (GLM), ]~b] (MiniMax), "### Response:" (Alpaca).
_TAG = re.compile(
    r"<(?=[A-Za-z/|｜!][^<>\s]{0,60}>)"
    r"|\[(?=\|[^\[\]\s]{1,60}\|\])"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|MODEL_SETTINGS|THINK|gMASK|sMASK)\])"
    r"|\](?=~!?b[\[\]])|\[(?=e~\[)"
    r"|###(?= (?:Instruction|Response|System|User|Assistant|Human):)"
)
_FIRST = re.compile(r"[<\[\]]|###")  # what each of them begins with: most texts have none


def wrap(thinking: str | None, answer_json: str) -> str:
    """The protocol around a thought and an answer; `thinking=None` leaves the thought out."""
    answer = f"{ANSWER_OPEN}{answer_json}{ANSWER_CLOSE}"
    return answer if thinking is None else f"{THINK_OPEN}{thinking}{THINK_CLOSE}\n{answer}"


def neutral(text: str) -> str:
    """The same text with a space inside whatever looks like a tag, so that it reads alike and means nothing."""
    return _TAG.sub(lambda found: f"{found.group()} ", text) if _FIRST.search(text) else text
