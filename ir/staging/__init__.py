"""Staging: from a JAX function to a graph; `trace` is the way in, `primitives` has a rule per JAX primitive."""
