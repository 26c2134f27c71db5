"""Command line: `ehrmind doctor`, which shows what this machine and installation can do. Works
without torch."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from ehrmind import __version__
from ehrmind.cli.offline import stay_offline

_SHOWN = (
    "torch",
    "transformers",
    "peft",
    "safetensors",
    "huggingface_hub",
    "polars",
    "pyarrow",
    "pydantic",
    "numpy",
    "scipy",
)
GIB = 2**30


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False) -> None:
    """Show versions, devices, memory and threads, what is missing, and whether this is offline."""
    stay_offline(online=False)
    facts = {
        "versions": _versions(),
        "extras": _extras(),
        "devices": _devices(),
        "memory": _memory(),
        "threads": _threads(),
        "offline": _offline(),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for section, values in facts.items():
        for key, value in values.items():
            table.add_row(section, key, value)
            section = ""
    Console(markup=False, highlight=False, soft_wrap=True).print(table)


def _versions() -> dict[str, str]:
    found = {
        "ehrmind": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
    }
    return found | {name: _version(name) for name in _SHOWN}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _extras() -> dict[str, str]:
    """Reports each extra of this package: complete, or what it lacks and the line that installs
    it."""
    from packaging.requirements import Requirement

    lacks: dict[str, list[str]] = {extra: [] for extra in metadata.metadata("ehrmind").get_all("Provides-Extra") or []}
    for text in metadata.requires("ehrmind") or []:
        requirement = Requirement(text)
        for extra, missing in lacks.items():
            if _belongs_to(requirement, extra) and not _satisfied(requirement):
                missing.append(requirement.name)
    return {
        extra: f"lacks {', '.join(names)}: pip install 'ehrmind[{extra}]'" if names else "complete"
        for extra, names in lacks.items()
    }


def _belongs_to(requirement: Any, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _satisfied(requirement: Any) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _devices() -> dict[str, str]:
    cpu = f"{platform.machine()}, {os.cpu_count()} logical cores"
    try:
        import torch
    except ImportError:
        return {"cpu": cpu, "cuda": "unknown, torch cannot be used"}
    if not torch.cuda.is_available():
        return {"cpu": cpu, "cuda": "none"}
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {"cpu": cpu} | {
        f"cuda:{i}": f"{device.name}, {device.total_memory / GIB:.0f} GiB" for i, device in enumerate(devices)
    }


def _memory() -> dict[str, str]:
    import psutil

    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(Path.cwd())
    return {
        "memory": f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f}",
        "disk here": f"{disk.free / GIB:.1f} GiB free of {disk.total / GIB:.1f}",
    }


def _threads() -> dict[str, str]:
    found = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set")}
    try:
        import torch
    except ImportError:
        return found
    return found | {"torch": str(torch.get_num_threads())}


def _offline() -> dict[str, str]:
    value = os.environ["HF_HUB_OFFLINE"]
    offline = value.upper() in {"1", "ON", "YES", "TRUE"}
    return {
        "state": "offline; `--online` or data.online=true allows the hub"
        if offline
        else f"online: HF_HUB_OFFLINE={value} is set",
        "telemetry": "off",
    }
