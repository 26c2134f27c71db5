"""The evaluation: every arm on the same held-out cases, and the comparison in results.json."""
