"""Judges a text: parse, compare, reward, judge, audit. Executes nothing that a model wrote and
never raises on it."""

from ehrmind.verify.judge import judge

__all__ = ["judge"]
