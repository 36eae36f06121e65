"""Numbers to run a step's shadow on: random, the same for the same names, and indices in range."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ir.analysis.uses import Uses
from ir.graph import Graph, Operand, Value
from ir.ops import op_of
from ir.ops.dtypes import is_integer, is_key
from ir.ring import in_ring

FEW = 8
"""Below what an integer is that nothing is looked up by: a count, a class, a segment."""


def ring_inputs(graph: Graph, seed: int = 0, given: Mapping[int, Any] | None = None) -> list[Any]:
    """An array for each input of a graph's shadow, in order.

    Real numbers are 32 random bits; integers are as small as the axes that are looked up by them are long; keys and
    booleans are random too. Each is made from the seed and its own path, so that no input changes with another.

    Args:
        graph: the step.
        seed: another one gives other numbers.
        given: integers, booleans and keys that are known, by the position of the input.
    """
    limits, known = index_limits(graph), given or {}
    paths = graph.input_paths or tuple([str(value) for value in graph.inputs])
    arrays: list[Any] = []
    for position, (value, path) in enumerate(zip(graph.inputs, paths, strict=True)):
        if position in known and not in_ring(value.type.dtype):
            arrays.append(known[position])
        else:
            random = np.random.default_rng((seed, zlib.crc32(path.encode())))
            arrays.append(_random(value, random, limits.get(value.id)))
    return arrays


def _random(value: Value, random: np.random.Generator, limit: int | None) -> Any:
    dtype, shape = value.type.dtype, value.type.shape
    if in_ring(dtype):
        return random.integers(0, 1 << 32, shape, dtype=np.uint32)
    if is_key(dtype):
        count = int(np.prod(shape, dtype=np.int64))
        keys = jax.random.split(jax.random.key(int(random.integers(1 << 31)), impl=_implementation(dtype)), count)
        return keys.reshape(shape)
    if dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    if not is_integer(dtype):
        return np.zeros(shape, dtype)
    if dtype in ("uint32", "uint64") and limit is None:  # the words of a key, as a rule
        return random.integers(0, 1 << 32, shape, dtype=np.uint32).astype(dtype)
    return random.integers(0, min(limit or FEW, 1 << 7 if dtype.endswith("int8") else 1 << 15), shape).astype(dtype)


def _implementation(dtype: str) -> str:
    """`key<fry>` → `threefry2x32`: JAX prints the short name of what it makes by the long one."""
    tag = dtype.removeprefix("key<").removesuffix(">")
    return {"fry": "threefry2x32", "rbg": "rbg", "urbg": "unsafe_rbg"}.get(tag, tag)


def index_limits(graph: Graph) -> dict[int, int]:
    """The size of the shortest axis that each integer input is an index of, if it is one; by the number of the
    input."""
    uses = Uses.of(graph)
    inputs = {value.id for value in graph.inputs}
    limits: dict[int, int] = {}
    for node in uses.nodes:
        if op_of(node).picks_by_indices and node.dims("along"):
            shortest = min(dim.size for dim in node.dims("along"))
            for origin in _origins(node.inputs[1], uses) & inputs:
                limits[origin] = min(shortest, limits.get(origin, shortest))
    return limits


def _origins(operand: Operand, uses: Uses) -> set[int]:
    """All integers that an operand is made from."""
    waiting: list[Operand] = [operand]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Value) and value.id not in seen and is_integer(value.type.dtype):
            seen.add(value.id)
            waiting += uses.sources(value)
    return seen
