"""Writes models to disk.

- `saved_model.py`: the model in memory as a `transformers` directory
- `proof.py`: proves that a directory holds the model in memory
- `exporting.py`: copies a model or merges an adapter for `ehrmind export model`
- `converting.py`: writes and proves the directory of `ehrmind model convert`
- `hf_export.py`: makes a directory that other programs open and prompt as the run did
"""
