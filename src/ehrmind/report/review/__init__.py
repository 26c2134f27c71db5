"""Review by clinicians: the sheet that they fill in, and what their verdicts say."""
