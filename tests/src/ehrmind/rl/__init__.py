"""The algorithm, pure: tensors in, tensors out. Knows no engine, no task and no file.

Letters: `_P` questions, `_G` members of a group, `_N` answers, `_T` tokens.
"""
