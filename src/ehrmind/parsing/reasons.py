"""Every reason why a text is not a correct answer, in one readable place.

A text is malformed when it breaks the protocol, the JSON or the schema, or when its answer is no
single value of the kind that the question asks for; the few reasons in `WELL_FORMED` are those of
an answer that is merely wrong.
"""

from __future__ import annotations

# the protocol
NO_ANSWER = "no answer block"
UNCLOSED_ANSWER = "unclosed answer block"
TWO_ANSWERS = "two answer blocks"
TEXT_AFTER = "text after the answer"
TEXT_BEFORE = "text outside the blocks"
NO_THINKING = "no thinking"
UNCLOSED_THINKING = "unclosed thinking"
TWO_THOUGHTS = "two thinking blocks"
EMPTY_THINKING = "empty thinking"
TRUNCATED = "truncated"

# the JSON and its schema
TOO_LONG = "answer too long"
NOT_JSON = "not JSON"
MISSING_KEY = "missing key"
UNEXPECTED_KEY = "unexpected key"
DUPLICATED_KEY = "duplicated key"

# no single value of the answer's kind
NOT_A_NUMBER = "not a number"
NOT_A_DATE = "not a date"
NOT_WEEKS_DAYS = "not weeks and days"
NOT_A_LABEL = "not one of the labels"
EXPRESSION = "uncomputed expression"
GUESSES = "list of guesses"
RANGE = "range"

# well-formed and wrong
WRONG_UNIT = "wrong unit"
NOT_AN_INTEGER = "not an integer"
OUT_OF_LIMITS = "out of limits"
WRONG_VALUE = "wrong value"
WRONG_LABEL = "wrong label"

WELL_FORMED = frozenset({WRONG_UNIT, NOT_AN_INTEGER, OUT_OF_LIMITS, WRONG_VALUE, WRONG_LABEL})
