"""The tool that a model may call: the calculators by name, and plain arithmetic. Text goes in and
comes out; nothing in it is executed.

<tool>{"calculator": "body-mass-index", "inputs": {"weight": "70 kg", "height": "170 cm"}}</tool>
<tool>{"expression": "(12 + 3) / 2"}</tool>
"""

from __future__ import annotations

import json
from typing import Any

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.arithmetic import evaluate
from ehrmind.calculators.telling import shown
from ehrmind.prompts.protocol import ANSWER_OPEN, TOOL_CLOSE, TOOL_OPEN, neutral
from ehrmind.types import InputError

LONGEST = 2000  # characters of a call


def calculator_tool(text: str) -> str | None:
    """Returns the reply to a turn that ends with a call, or None if it does not call. The reply
    names what is wrong with a call."""
    head, opened, call = text.rpartition(TOOL_OPEN)
    call, closed, rest = call.partition(TOOL_CLOSE)
    if not opened or not closed or rest.strip() or ANSWER_OPEN in head:
        return None
    try:
        return neutral(_reply(call))
    except InputError as error:
        return neutral(f"error: {str(error)[:300]}")


def _reply(call: str) -> str:
    if len(call) > LONGEST:
        raise InputError(f"a call has at most {LONGEST} characters.")
    try:
        asked: Any = json.loads(call)
    except (ValueError, RecursionError):
        raise InputError("the call is not JSON.") from None
    if isinstance(asked, dict) and asked.keys() == {"expression"} and isinstance(asked["expression"], str):
        value = evaluate(asked["expression"])
        if value is None:
            raise InputError("the expression is not arithmetic that has a value.")
        return shown(value)
    if isinstance(asked, dict) and asked.keys() == {"calculator", "inputs"} and isinstance(asked["inputs"], dict):
        name = asked["calculator"]
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise InputError("the calculator is a name.")
        result = CALCULATORS[name](**_inputs(asked["inputs"]))
        return f"{shown(result.value)}{f' {result.unit}' if result.unit else ''}"
    raise InputError('a call is {"calculator": NAME, "inputs": {…}} or {"expression": TEXT}.')


def _inputs(given: dict[str, object]) -> dict[str, object]:
    """Converts inputs as `Calculator` reads them: [70, "kg"] is a value and its unit."""
    for name, value in given.items():
        pair = isinstance(value, list) and len(value) == 2
        if not pair and not isinstance(value, str | int | float | bool):
            raise InputError(f"{name[:60]}: an input is a number, a text, true or false, or [number, unit].")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
