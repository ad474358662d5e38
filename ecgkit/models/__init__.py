"""Torch modules: no data access, no training, no metrics."""
