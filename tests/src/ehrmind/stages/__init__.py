"""The recipe's moves: pilot, warm-up, RLVR, evaluate, and the pipeline that runs them in order. Knows no report."""
