"""EHRMIND: adapt an open language model to clinical reasoning over health records, and prove that
it got better.
"""

__version__ = "0.1.0"
