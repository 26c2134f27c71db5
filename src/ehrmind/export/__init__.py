"""Exports: a model directory with its card, training data for verl and TRL, and a GGUF file as a
model directory."""
