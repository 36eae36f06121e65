"""A run: its state and step, the loop that drives them, and what is kept of it."""
