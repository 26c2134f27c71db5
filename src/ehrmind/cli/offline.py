"""Command line: nothing leaves the machine unless it was asked to. Called before anything imports huggingface_hub."""

from __future__ import annotations

import os


def stay_offline(online: bool) -> None:
    """Set what the libraries read when they are imported. What the person's environment already says, stays."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("WANDB_MODE", "offline")
    if not online:
        os.environ.setdefault(
            "HF_HUB_DISABLE_PROGRESS_BARS", "1"
        )  # there is no download; transformers' other bars would cut through ours
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
