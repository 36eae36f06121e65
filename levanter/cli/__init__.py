"""The command line. Nothing here imports JAX, or anything slow, before a command needs it."""
