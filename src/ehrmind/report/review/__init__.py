"""Review by clinicians: the sheet that they fill in, and the figures made from their verdicts."""
