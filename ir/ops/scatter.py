"""scatter: writes the third operand into the first, or combines it, at the indices in the second."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax.lax import GatherScatterMode

from ir import errors, jax_api
from ir.graph import Node
from ir.jax_api import jnp, lax
from ir.ops.indexed import Indexed, clips, looked_up, must_interleave, own_places, places_of
from ir.ops.op import Names, Place, names_of, paired, params_of
from ir.ops.padding import Filling
from ir.ops.rule import Expected, Piece, like, must, operands, same_dtype
from ir.ops.spread import Spread, Walked, nothing_pending, pending
from ir.ring import mix, touches
from ir.shards import Shards, bind_primitive
from ir.types import SUM

_MEMBERS = ("set", "add", "mul", "min", "max", "sub")
_ADDING = ("add", "sub")

_COMBINED: Mapping[str, Any] = {"add": lax.add, "mul": lax.mul, "min": lax.min, "max": lax.max, "sub": lax.sub}


class Scatter(Indexed):
    """The result is the operand, changed in places; updates have the dims of the indices and of what they change."""

    kind = "scatter"
    meetings = {"scatter": "a scatter of {pairs}: what is written must have the axes of where it goes"}
    keeps_places = True
    writes_into = True
    pads = True

    def results(self, node: Node) -> Sequence[Expected]:
        operands(node, 3, 3)
        must(node.fn in _MEMBERS, Piece("op"), errors.rule_needs(f"one of {', '.join(_MEMBERS)}"))
        along, whole, pairs = looked_up(node)
        same_dtype(node, (0, 2))
        must_interleave(node, Piece("operand", 2), node.inputs[2].type.dims, along, whole, pairs)
        return [like(node.inputs[0].type)]

    def spread(self, node: Node) -> Sequence[Spread]:
        """Updates that are added may be sharded along what is looked up by: each device adds its own, the operand
        counts once, and the result is partial. A place that is written belongs to one device, which alone writes it."""
        found = places_of(node, node.inputs[2])
        rank = len(node.inputs[0].type.dims)
        adding = node.fn in _ADDING
        summed = {label for label in found.indices if label is not None and label >= rank}
        walked = Walked(node, [range(rank), found.indices, found.mixed], found.cut if adding else found.cut | summed)
        due = pending(node, ((0, 2),)) if adding else nothing_pending(node)
        return [walked.result(range(rank), due, summed)]

    def links(self, node: Node) -> Iterator[tuple[Place, Place]]:
        operand, indices, updates = node.inputs
        yield from paired(operand, range(len(operand.type.dims)), node.outputs[0])
        if "dimension_numbers" not in (params := params_of(node)):
            return
        numbers = params["dimension_numbers"]
        inserted = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
        windows = iter([axis for axis in range(len(operand.type.dims)) if axis not in inserted])
        batch = iter(range(len(indices.type.dims) - 1))
        for position, dim in enumerate(updates.type.dims):
            if position not in numbers.update_window_dims:
                yield (updates, position), (indices, next(batch))
            elif operand.type.dims[axis := next(windows)].size == dim.size:
                yield (updates, position), (node.outputs[0], axis)
        pairs = zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
        yield from [((operand, a), (indices, b)) for a, b in pairs]

    def reduced(self, node: Node) -> Names:
        if node.fn != "add":
            return ()
        return tuple(sorted(names_of(node.value_inputs[1:2]) - names_of(node.outputs)))

    def blocked(self, node: Node) -> Names:
        whole = (*node.names("whole"), *self.shuffled(node))
        gone = names_of(node.value_inputs[1:]) - names_of(node.outputs) - set(self.reduced(node))
        return (*whole, *sorted(gone))

    def padding(self, node: Node, names: Collection[str]) -> Sequence[Filling] | None:
        """What stands for nothing adds nothing, wherever its index points to."""
        rows = [name for name in self.reduced(node) if name in names]
        if set(self.replicated(node)) - set(rows) & set(names) or (
            rows and params_of(node).get("unique_indices", True)
        ):
            return None
        return [{}, {}, {name: SUM for name in rows}]

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Of an axis that is sharded and written to, each device writes the places that it has. Where devices have
        parts of the updates, the operand counts once."""
        assert node.origin is not None
        (operand, indices, updates), params = arrays, dict(node.origin.params)
        type_, numbers = node.outputs[0].type, params["dimension_numbers"]
        if axes := [axis for axis in type_.partial if axis not in node.inputs[0].type.partial]:
            first = shards.index(axes) == 0
            operand = jnp.where(first, operand, jnp.zeros_like(operand))
        positions = [int(position) for position in numbers.scatter_dims_to_operand_dims]
        columns = {column: type_.dims[at] for column, at in enumerate(positions) if type_.dims[at].mesh}
        if not columns:
            return bind_primitive(node, [operand, indices, updates], params)
        if clips(params["mode"]):
            # What is not here is dropped, so whatever lies outside must be brought in before.
            room = _room(node, positions)
            indices = jnp.clip(indices, 0, jnp.asarray(room, indices.dtype))
        near, here, _ = own_places(indices, columns, False, shards)
        params |= {
            "mode": GatherScatterMode.FILL_OR_DROP,
            "indices_are_sorted": False,
            "unique_indices": False,
        }
        if here.size == 1:
            # XLA makes a slice update of it, and loses that one outside of a slice is dropped (CPU, jaxlib 0.10).
            (written,) = bind_primitive(node, [operand, near, updates], params)
            return [jnp.where(here.reshape(()), written, operand)]
        column, dim = next(iter(columns.items()))
        away = jnp.where(here, near[..., column], shards.length(dim))
        return bind_primitive(node, [operand, near.at[..., column].set(away), updates], params)

    def looked_up_axes(self, node: Node) -> Sequence[int]:
        return tuple(params_of(node)["dimension_numbers"].scatter_dims_to_operand_dims)

    def ring_params(self, node: Node) -> Mapping[str, Any]:
        """With the function that combines two numbers of the ring."""
        params = params_of(node)
        if not touches(node) or params.get("update_jaxpr") is None:
            return params
        number = np.uint32(0)
        closed = jax_api.make_jaxpr(_COMBINED.get(node.fn, _applied))(number, number)
        return {**params, "update_jaxpr": closed.jaxpr, "update_consts": tuple(closed.consts)}


def _room(node: Node, positions: Sequence[int]) -> list[int]:
    """The last place at which a window begins, for each column of the indices."""
    assert node.origin is not None
    numbers, dims = node.origin.params["dimension_numbers"], node.inputs[0].type.dims
    inserted = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    windows = iter([node.inputs[2].type.dims[int(position)].size for position in numbers.update_window_dims])
    sizes = [1 if position in inserted else next(windows) for position in range(len(dims))]
    return [dims[position].size - sizes[position] for position in positions]


def _applied(number: Any, _: Any) -> Any:
    """What `x.at[i].apply(f)` is in the ring, whatever `f` is."""
    return mix(number, "apply")
