"""OMOP CDM tables become a MEDS data set."""

from ehrmind.sources.omop.convert import OmopCounts, convert_omop

__all__ = ["OmopCounts", "convert_omop"]
