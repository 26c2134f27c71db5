"""Figures of a run -> the tables of the page, a file per part."""
