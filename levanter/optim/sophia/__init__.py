"""Sophia-H."""
