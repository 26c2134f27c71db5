"""Opens a model directory, an adapter or a tokenizer after checking it.

- `gate.py`, `named_code.py`: files and keys that are refused before a library reads them
- `sizes.py`, `adapter_numbers.py`: numbers that no model or adapter has
- `template_probe.py`, `pattern_probe.py`, `probe.py`: strangers' templates and patterns, tried in
  a process with limits
- `config.py`, `network.py`, `tokenizer.py`, `adapters.py`: what `transformers` and `peft` open
- `gguf_header.py`, `gguf.py`: a GGUF file, checked and opened by transformers' own reader
- `dropout.py`, `quantised.py`: settings of a model that change when it is opened
"""
