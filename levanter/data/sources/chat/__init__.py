"""Conversations in JSON lines."""
