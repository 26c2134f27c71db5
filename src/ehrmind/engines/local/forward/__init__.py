"""Computes a model's forward and backward pass.

- `packing.py`, `attention.py`: groups in one sequence, each prompt computed once
- `lm_head.py`, `matmul.py`, `norms.py`: faster layers of our own
- `plain_rows.py`, `rotary.py`: models whose prompts cannot be shared; rotary factors by length
- `sharing.py`, `trial.py`: trials that decide which way a model takes
"""
