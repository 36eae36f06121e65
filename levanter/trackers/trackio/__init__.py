"""Trackio as a mirror."""
