"""Figures of a run -> plots as inline SVG, drawn by matplotlib."""
