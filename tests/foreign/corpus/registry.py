"""All steps of the corpus, by name; a library that is not installed has none here."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from corpus.case import Case

LIBRARIES = {
    "linen": "flax",
    "nnx": "flax",
    "equinox_steps": "equinox",
    "haiku_steps": "haiku",
    "plain": "jax",
    "optimizers": "optax",
    "numpyro_steps": "numpyro",
    "diffrax_steps": "diffrax",
    "solvers": "optimistix",
}
"""By module, the library that its steps need."""

CASES: dict[str, Case] = {
    name: case
    for module, library in LIBRARIES.items()
    if find_spec(library) is not None
    for name, case in importlib.import_module(f"corpus.{module}").CASES.items()
}
