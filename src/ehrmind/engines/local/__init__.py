"""The local engine: a `transformers` model on one device.

- `model.py`: the opened model, which everything below works on; `engine.py` puts all of it together
- `opening/`: checks a directory, then opens weights, tokenizer and adapter
- `chat/`: conversations to tokens and back
- `forward/`: attention, LM head and matmul of our own, and trials of what a model can do
- `scoring.py`: log-probabilities of given completions
- `sampling/`: decoding with a KV cache, label log-probabilities
- `training/`: the learner, fp32 master weights, checkpoints
- `workers/`: batches in shards, FSDP2, sums of gradients
- `saving/`: saved models, their proof, Hugging Face export
- `memory.py` estimates the memory of a run; `tiny.py` builds small models
"""
