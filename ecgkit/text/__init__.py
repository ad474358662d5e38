"""What is said about one ECG, and who says it."""
