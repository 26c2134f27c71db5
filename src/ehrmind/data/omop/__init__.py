"""Converts OMOP CDM tables into a MEDS data set."""

from ehrmind.data.omop.convert import convert_omop
from ehrmind.data.omop.counts import OmopCounts

__all__ = ["OmopCounts", "convert_omop"]
