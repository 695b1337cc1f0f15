"""What people review: sampling, corrections, audits, Label Studio."""
