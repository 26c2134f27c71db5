"""Samples answers.

- `sampler.py`: batches, random draws, the end of an answer
- `decoder.py`: one step for all rows, on top of `kv_cache.py`, `decoding_step.py` and, on CUDA,
  `cuda_graphs.py`
- `label_logprobs.py`: how likely each of a few labels is, without sampling
"""
