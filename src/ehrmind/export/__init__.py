"""Exports: a model directory with its card, and training data for verl and TRL."""
