"""The table of licences of the sources and of the base model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ehrmind.report.formatting import ABSENT, Cell, Rows, Table
from ehrmind.report.reading import Figures

UNKNOWN = Cell("not stated", "its owner's terms hold", "warn")
SYNTHETIC = Cell("none needed", "synthetic, nobody's data")


def licences(figures: Figures) -> Table:
    """A row per source and one for the base model; a run reads no licence from files."""
    data = figures.recipe.get("data", {})
    sources = {split.replace("_", "-"): data.get(split) for split in ("train", "tuning", "held_out")}
    sources |= dict(data.get("transfer") or {})
    if general := (figures.recipe.get("evaluate") or {}).get("general"):
        sources["general"] = general.get("source") or {"synthetic": {}}
    rows: Rows = []
    for place, source in sources.items():
        if source is None or source.get("share_of_train"):
            continue
        kind, names, licence = _source(source)
        licence = Cell(source["licence"], "as the recipe says") if source.get("licence") else licence
        stays = bool(source.get("restricted")) or kind == "EHRSHOT release"
        rows.append([place, kind, ", ".join(names) or ABSENT, licence, "never leaves the machine" if stays else ABSENT])
    name = (figures.recipe.get("model") or {}).get("name")
    shown = figures.provenance.get("model", {}).get("name") or (Path(name).name if name else "tiny")
    rows.append(["base model", "weights", shown, UNKNOWN if name else SYNTHETIC, ABSENT])
    caption = (
        "Licences of data and base model, as the recipe says (licence) or their kind tells; a run reads none from "
        "files. A model trained on restricted data is as restricted as the data."
    )
    return Table(caption, ["For", "Kind", "Name", "Licence", "Marked"], rows)


def _source(source: Mapping[str, Any]) -> tuple[str, list[str], Cell]:
    """(kind, names of files without folders, licence)"""
    if source.get("synthetic") is not None:
        return "synthetic cases", [], SYNTHETIC
    if source.get("medcalc"):
        note = "MedCalc-Bench's own files (arXiv 2406.12036); other files in its form have their owner's"
        return "MedCalc-Bench files", [Path(file).name for file in source["medcalc"]], Cell("CC BY-SA 4.0", note)
    if (ehr := source.get("ehr")) and ehr.get("ehrshot"):
        signed = Cell("data use agreement", "EHRSHOT's (arXiv 2307.02028), signed by everyone who uses it", "warn")
        return "EHRSHOT release", [Path(ehr["ehrshot"]).name], signed
    if ehr:
        named = Cell("not stated", "its owner's terms hold; metadata/dataset.json may name them", "warn")
        return "MEDS data set", [Path(ehr["meds"]).name], named
    if trials := source.get("trials"):
        terms = Cell("not stated", "topics and registry records have terms of their own", "warn")
        return "patients and trials", [Path(trials["topics"]).name, Path(trials["qrels"]).name], terms
    if table := source.get("table"):
        return "table", [Path(table["path"]).name], UNKNOWN
    return "Cases files", [Path(file).name for file in source.get("cases") or []], UNKNOWN
