"""The limit of a prompt's length: the recipe's, and what the model's context leaves for it."""

from __future__ import annotations

from ehrmind.config import Decoding, Prompts
from ehrmind.types import InputError


def prompt_limit(prompts: Prompts, decoding: Decoding, context: int) -> int:
    """Returns the limit in tokens. Raises InputError if the answer alone fills the context."""
    room = context - decoding.max_new_tokens
    if room < 1:
        raise InputError(
            f"The model's context is {context:,} tokens, and decoding.max_new_tokens={decoding.max_new_tokens} leaves"
            " none of them for a prompt; lower decoding.max_new_tokens, or choose a model with a longer context."
        )
    return min(prompts.max_tokens, room)


def how_to_fit(prompts: Prompts, decoding: Decoding, context: int, longest: int) -> str:
    """Says how a prompt of `longest` tokens would fit. It names the limit that binds: raising the
    other one changes nothing."""
    ways = []
    if longest > prompts.max_tokens and longest + decoding.max_new_tokens <= context:
        ways.append(f"raise prompts.max_tokens to {longest}")
    elif longest < context:
        lower = (
            f"lower decoding.max_new_tokens to {context - longest} or less: the model's context of {context:,} tokens"
            " holds the answer too"
        )
        ways.append(lower + (f" (and raise prompts.max_tokens to {longest})" if longest > prompts.max_tokens else ""))
    else:
        ways.append(f"choose a model with a longer context than {context:,} tokens")
    return ", or ".join(ways)
