"""Weights & Biases as a mirror."""
