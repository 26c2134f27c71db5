"""Runs the same stages on a Ray cluster. Ray Train starts and restarts the workers; Ray Data reads
files.

ray is imported where it is used.
"""
