"""Arguments that a step updates in place, as NNX code does: `optimizer.update(model, grads)` and nothing is returned.

Such arrays are in the variables of a module, which is mutable. What a variable holds after the step, and the step does
not return, is a further output of the graph, carried from the input that it was; `passes.lower` puts it back into the
variable, as `nnx.jit` would.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from ir.jax_api import tree_flatten, tree_leaves, tree_structure, tree_unflatten
from ir.staging.static_leaves import is_array

_SETTERS = ("set_value", "copy_from")
"""What a variable of NNX has, and a box of linen, which cannot change, has not."""


def is_variable(node: Any) -> bool:
    """Whether a node of a tree is a mutable variable of NNX."""
    kind = cast(Any, type(node))
    return hasattr(kind, "get_metadata") and any(hasattr(kind, each) for each in _SETTERS)


def watched(step: Callable[..., Any], updated: list[int]) -> Callable[..., tuple[list[Any], Any]]:
    """The step, giving the arrays that it updates in place and does not return, and its result.

    Args:
        updated: is filled with the positions of these arrays among those of the arguments, when the step runs.
    """

    def watching(*arguments: Any) -> tuple[list[Any], Any]:
        before = [(at, variable, tree_leaves(variable)) for at, variable in _variables(arguments)]
        result = step(*arguments)
        returned = {id(leaf) for leaf in tree_leaves(result)}
        updated.clear()
        arrays: list[Any] = []
        for at, variable, old in before:
            for i, (was, now) in enumerate(zip(old, tree_leaves(variable), strict=False)):
                if now is not was and id(now) not in returned:
                    updated.append(at + i)
                    arrays.append(now)
        return arrays, result

    return watching


def has_variables(arguments: Sequence[Any]) -> bool:
    """Whether a step could update one of its arguments in place."""
    return any(map(is_variable, tree_flatten(tuple(arguments), is_leaf=is_variable)[0]))


def put_back(arguments: Sequence[Any], updated: Sequence[int], arrays: Sequence[Any]) -> None:
    """Gives the variables of the arguments what they hold after the step.

    Args:
        updated: positions among the arrays of the arguments.
        arrays: what stands there after the step.
    """
    new = dict(zip(updated, arrays, strict=True))
    for at, variable in _variables(arguments):
        leaves = tree_leaves(variable)
        places = range(at, at + len(leaves))
        if new.keys() & set(places):
            after = [new.get(place, leaf) for place, leaf in zip(places, leaves, strict=True)]
            _assign(variable, tree_unflatten(tree_structure(variable), after))


def _assign(variable: Any, other: Any) -> None:
    if hasattr(variable, "set_value"):
        variable.set_value(other.get_value())
    else:
        variable.copy_from(other)


def _variables(arguments: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Every variable with the position of its first array among the arrays of the arguments."""
    at = 0
    nodes, _ = tree_flatten(tuple(arguments), is_leaf=is_variable)
    for node in nodes:
        count = sum(map(is_array, tree_leaves(node)))
        if is_variable(node):
            yield at, node
        at += count
