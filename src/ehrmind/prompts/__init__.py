"""Turns a case into messages. This is the only room that writes the answer protocol."""

from ehrmind.prompts.chat import gold_response, messages

__all__ = ["gold_response", "messages"]
