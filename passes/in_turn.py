"""Collectives of a step on CPU devices, one after another.

XLA for CPUs starts whatever no data holds back: a loop that communicates, and a collective beside it, at once. Between
processes the library that carries them (gloo) tells messages apart by their order alone, so one that is early is taken
for another: the process is ended, or, where the sizes agree, the numbers are wrong (jaxlib 0.10 and 0.12). So each
collective, and each loop that has some, takes its operands behind what the one before has given: through a loop that
makes no trip, which a number says that is known at run time only. The values stay as they are.

In one process devices may take a loop and a collective beside it in different orders, and with a thread for each they
wait for one another for ever (jaxlib 0.10). There a loop that communicates is behind all before it, and what follows is
behind the loop; collectives outside of loops come in one order by XLA itself.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from ir.graph import Node
from ir.ops import op_of


def sends(node: Node) -> bool:
    """Whether it communicates, by itself or in a body."""
    bodies = node.bodies if not op_of(node).sealed else ()
    return op_of(node).communicates or any(op_of(each).communicates for body in bodies for each in body.walk())


def behind(arrays: Sequence[Any], before: Sequence[Any]) -> list[Any]:
    """The same arrays, which are there once all of `before` are."""
    held = {at: array for at, array in enumerate(arrays) if _is_number(array)}
    awaited = [array for array in before if _is_number(array) and array.size]
    if not held or not awaited:
        return list(arrays)

    def again(state: tuple[Any, dict[int, Any]]) -> tuple[Any, dict[int, Any]]:
        return jnp.bool_(False), {at: array + lax.full_like(array, 1) for at, array in state[1].items()}

    never = _never(awaited)
    _, held = lax.while_loop(lambda state: state[0], again, (never, held))
    return [held.get(at, array) for at, array in enumerate(arrays)]


def _never(arrays: Sequence[Any]) -> Any:
    """False, whatever the arrays hold, as no compiler can tell."""
    found = jnp.uint32(0)
    for array in arrays:
        first = lax.reshape(lax.slice(array, (0,) * array.ndim, (1,) * array.ndim), ())
        if not jnp.issubdtype(first.dtype, jnp.integer):
            first = jnp.isnan(first)
        found = jnp.maximum(found, first.astype(jnp.uint32) & 1)
    return found > 1


def _is_number(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.number)
