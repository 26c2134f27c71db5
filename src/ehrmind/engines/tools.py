"""Answers in several turns: a turn that calls a tool is followed by the reply, and the model goes
on.

The reply is a turn that is never trained on. This works with any sampler: it is asked again behind
what was said. A tool is a function from the text of a turn to its reply, or to None if the turn
calls nothing. The stage passes it in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ehrmind.config import Decoding
from ehrmind.engines import Sampler
from ehrmind.engines.uniforms import turn_key
from ehrmind.types import Completion, Prompt, Segment

Tool = Callable[[str], str | None]
MOST_CALLS = 4  # in one answer; a further call ends it


def sample_with_tool(
    engine: Sampler, prompts: Sequence[Prompt], keys: Sequence[int], group_size: int, decoding: Decoding, tool: Tool
) -> list[list[Completion]]:
    """Samples like `engine.sample`, with tool calls.

    A call that leaves no room in the context ends the answer.
    """
    answers = [list(group) for group in engine.sample(prompts, keys, group_size, decoding)]
    for turn in range(1, MOST_CALLS + 1):
        waiting: list[tuple[int, int, str, Prompt]] = []
        asked: list[Prompt] = []
        for place, group in enumerate(answers):
            for member, said in enumerate(group):
                if said.finish_reason != "stop" or len(said.segments) != 2 * turn - 1:  # it ended earlier
                    continue
                reply = tool(said.text)
                if reply is None:
                    continue
                between = engine.tool_turn(reply, thinks=prompts[place].thinks)
                ids = (
                    *prompts[place].token_ids,
                    *(token for part in said.segments for token in part.token_ids),
                    *between.token_ids,
                )
                if len(ids) + decoding.max_new_tokens <= engine.context:
                    waiting.append((place, member, reply, between))
                    asked.append(Prompt(ids, between.opening, between.thinks))
        if not waiting:
            break
        found = engine.sample(
            asked, [turn_key(keys[place], member, turn) for place, member, _, _ in waiting], 1, decoding
        )
        for (place, member, reply, between), (next_turn,) in zip(waiting, found, strict=True):
            answers[place][member] = _joined(answers[place][member], reply, between, next_turn)
    return answers


def _joined(said: Completion, reply: str, between: Prompt, then: Completion) -> Completion:
    tool = Segment("tool", between.token_ids, (0.0,) * len(between.token_ids), trainable=False)
    earlier = f"{said.earlier}{said.text}\n[{reply}]\n"
    return Completion((*said.segments, tool, *then.segments), then.finish_reason, then.text, earlier)
