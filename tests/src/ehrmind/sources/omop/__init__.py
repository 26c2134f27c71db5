"""OMOP CDM tables become a MEDS data set."""

from ehrmind.sources.omop.convert import convert_omop
from ehrmind.sources.omop.counts import OmopCounts

__all__ = ["OmopCounts", "convert_omop"]
