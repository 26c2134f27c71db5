"""Reads a text into an answer, and an answer's value into a number, date or label, or says why it
cannot."""
