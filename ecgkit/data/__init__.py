"""Where ECGs, questions and outcomes come from."""
