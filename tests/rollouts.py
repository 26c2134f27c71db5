"""A rollout row with defaults, for tests that need one of their own."""

from __future__ import annotations

from typing import Any

from ehrmind.runs.records import RolloutRow


def rollout_row(**changes: Any) -> RolloutRow:
    fields: dict[str, Any] = {"step": 0, "arm": "base", "stage": "pilot", "case": "c", "stratum": "s", "member": 0}
    fields |= {"text": "t", "earlier": "", "reward": 1.0, "parts": {"format": 0.5, "outcome": 0.5}, "correct": True}
    fields |= {"reason": None, "advantage": None, "tokens": 3, "prompt_tokens": 5, "logprob": -1.5}
    fields |= {"finish_reason": "stop", "well_formed": True, "probabilities": None}
    return RolloutRow(**{**fields, **changes})
