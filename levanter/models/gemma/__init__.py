"""Gemma, the first."""
