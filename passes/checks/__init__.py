"""The checks behind `passes.check_axes`, a file per family of mistakes."""
