"""Trains a model.

- `learner.py`: one AdamW step a call
- `policy_batch.py`: a batch of judged groups, its loss and its metrics
- `masters.py`: fp32 master weights of narrow weights
- `checkpoint.py`: weights, optimiser and random state on disk
"""
