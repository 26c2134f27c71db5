"""Turns conversations into tokens and tokens into answers.

- `conversation.py`: prompts, responses and the end of a turn, through the tokenizer's chat template
- `markers.py`: takes text apart that spells a special token or a turn
- `template_text.py`: edits a template's text (date, default arguments)
- `template_fault.py`: words for a template's error
"""
