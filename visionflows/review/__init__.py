"""Review by people: sampling, corrections, audits, Label Studio."""
