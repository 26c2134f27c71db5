"""Text -> Verdict: parse, compare, reward, judge, audit. Executes nothing that a model wrote, never raises on it."""

from ehrmind.verify.judge import judge

__all__ = ["judge"]
