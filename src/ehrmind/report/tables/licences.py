"""The table of licences of the sources and of the base model."""

from __future__ import annotations

from pathlib import Path

from ehrmind.config import DataSource
from ehrmind.report.formatting import ABSENT, Cell, Rows, Table
from ehrmind.report.reading import Figures
from ehrmind.runs import SPLITS

UNKNOWN = Cell("not stated", "its owner's terms hold", "warn")
SYNTHETIC = Cell("none needed", "synthetic, nobody's data")


def licences(figures: Figures) -> Table:
    """A row per source and one for the base model; a run reads no licence from files."""
    data, model = figures.recipe.data, figures.recipe.model
    sources = {split.replace("_", "-"): getattr(data, split) for split in SPLITS} | figures.recipe.places
    rows: Rows = []
    for place, source in sources.items():
        if source.share_of_train:
            continue
        kind, names, licence = _source(source)
        licence = Cell(source.licence, "as the recipe says") if source.licence else licence
        stays = source.restricted or kind == "EHRSHOT release"
        rows.append([place, kind, ", ".join(names) or ABSENT, licence, "never leaves the machine" if stays else ABSENT])
    shown = figures.provenance.model.name if figures.provenance else Path(model.name).name if model.name else "tiny"
    rows.append(["base model", "weights", shown, UNKNOWN if model.name else SYNTHETIC, ABSENT])
    caption = (
        "Licences of data and base model, as the recipe says (licence) or their kind tells; a run reads none from "
        "files. A model trained on restricted data is as restricted as the data."
    )
    return Table(caption, ["For", "Kind", "Name", "Licence", "Marked"], rows)


def _source(source: DataSource) -> tuple[str, list[str], Cell]:
    """(kind, names of files without folders, licence)"""
    if source.synthetic is not None:
        return "synthetic cases", [], SYNTHETIC
    if source.medcalc:
        note = "MedCalc-Bench's own files (arXiv 2406.12036); other files in its form have their owner's"
        return "MedCalc-Bench files", [Path(file).name for file in source.medcalc], Cell("CC BY-SA 4.0", note)
    if source.ehr is not None and source.ehr.ehrshot is not None:
        signed = Cell("data use agreement", "EHRSHOT's (arXiv 2307.02028), signed by everyone who uses it", "warn")
        return "EHRSHOT release", [source.ehr.ehrshot.name], signed
    if source.ehr is not None and source.ehr.meds is not None:
        named = Cell("not stated", "its owner's terms hold; metadata/dataset.json may name them", "warn")
        return "MEDS data set", [source.ehr.meds.name], named
    if source.trials is not None:
        terms = Cell("not stated", "topics and registry records have terms of their own", "warn")
        return "patients and trials", [source.trials.topics.name, source.trials.qrels.name], terms
    if source.table is not None:
        return "table", [source.table.path.name], UNKNOWN
    return "Cases files", [file.name for file in source.cases], UNKNOWN
