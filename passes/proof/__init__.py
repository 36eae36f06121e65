"""What the pass `prove` is made of."""
