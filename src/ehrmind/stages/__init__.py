"""Stages of a run: pilot, warm-up, RLVR and evaluation, and the pipeline that runs them in order.
They know no report."""
