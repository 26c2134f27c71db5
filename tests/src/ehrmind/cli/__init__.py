"""Command line: verbs, no logic. `main` is the entry point; every library is imported inside the verb that uses it."""

from ehrmind.cli.app import main

__all__ = ["main"]
