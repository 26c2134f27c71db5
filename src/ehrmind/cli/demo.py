"""Command line: the recipes that ship, and the demo that runs three of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ehrmind.cli.ehr import synthetic_ehr
from ehrmind.cli.stages import run
from ehrmind.types import InputError

# By family: the recipe's name, its run folder under --out, and the sources of data that read the
# synthetic MEDS data set.
DEMOS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "medcalc": ("demo", "demo", ()),
    "trials": ("demo_trials", "demo-trials", ("data.transfer.coded_histories",)),
    "ehr": ("demo_ehr", "demo-ehr", ("data.source", "data.transfer.creatinine", "data.transfer.readmission")),
}
# Label tasks of the sources that have another than `next_hemoglobin_low`.
TASKS = {"data.transfer.creatinine": "next_creatinine_high", "data.transfer.readmission": "readmission_30d"}


def recipes() -> None:
    """List the recipes that ship, by the names that `ehrmind run NAME` takes."""
    from ehrmind.config import first_sentence, shipped_recipes

    width = max(map(len, shipped_recipes()))
    for name, path in shipped_recipes().items():
        typer.echo(f"{name:<{width}} {first_sentence(path)}")


def demo(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FAMILY]... [KEY=VALUE]...",
            help=f"Of {', '.join(DEMOS)}; all without one. Then recipe keys to change.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the runs and their data go.")] = Path("runs"),
) -> None:
    """Run the whole recipe on synthetic cases and tiny models. Given again, it goes on."""
    from ehrmind.config import shipped_recipes

    overrides = [text for text in given or [] if "=" in text]
    families = [text for text in given or [] if "=" not in text] or list(DEMOS)
    unknown = [text for text in families if text not in DEMOS]
    if unknown:
        raise InputError(f"ehrmind demo: there is no family {unknown[0][:40]!r}; name one of {', '.join(DEMOS)}.")
    for family in families:
        recipe, folder, sources = DEMOS[family]
        meds = out / "demo-meds"
        if sources and not meds.exists():
            synthetic_ehr(subjects=6000, events=120, labels=2, seed=1, out=meds)
        typer.echo(f"{family}, into {out / folder}")
        run(shipped_recipes()[recipe], str(out / folder), [*_reading(meds, sources), *overrides], resume=True)


def _reading(meds: Path, sources: tuple[str, ...]) -> list[str]:
    """Makes the overrides with which a recipe reads the data set under --out."""
    changes = []
    for source in sources:
        task = TASKS.get(source, "next_hemoglobin_low")
        named = {"meds": str(meds), "labels": str(meds / "labels" / task)}
        changes += [f"{source}.ehr.{key}={json.dumps(path)}" for key, path in named.items()]  # JSON is YAML
    return changes
