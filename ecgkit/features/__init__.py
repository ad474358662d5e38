"""What is computed from one ECG."""
