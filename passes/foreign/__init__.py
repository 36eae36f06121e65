"""Sharding rules of other systems: read, held against a step, priced as a plan, and written."""
