"""Command line: keeps everything on the machine unless asked otherwise. Called before anything
imports huggingface_hub."""

from __future__ import annotations

import os


def stay_offline(online: bool) -> None:
    """Sets the variables that libraries read at import. Variables that the user has set stay."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("WANDB_MODE", "offline")
    if not online:
        # Nothing is downloaded, and transformers' other bars would break ours.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
