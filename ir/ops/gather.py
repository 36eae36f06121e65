"""gather: looks up the dims in `along` by the indices in the second operand."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax.lax import GatherScatterMode

from ir import errors
from ir.graph import Node
from ir.jax_api import jnp, lax
from ir.ops.dtypes import family, is_key
from ir.ops.indexed import Indexed, clips, looked_up, must_interleave, own_places, places_of
from ir.ops.op import Names, Place, params_of
from ir.ops.padding import Filling
from ir.ops.rule import Expected, Piece, must, operands
from ir.ops.spread import ANY, SUMS, Spread, Walked, nothing_pending, pending
from ir.ring import literal, touches
from ir.shards import Shards, bind_primitive
from ir.types import SUM


class Gather(Indexed):
    """The result has the dims of the indices and, between them, what is left of the operand."""

    kind = "gather"
    meetings = {"gather": "a lookup of {pairs}: what is looked up together must be the same axis"}
    picks = True
    reads_whole_parameters = True
    pads = True

    def results(self, node: Node) -> Sequence[Expected]:
        operands(node, 2, 2)
        along, whole, pairs = looked_up(node)
        must(bool(node.outputs), Piece("op"), errors.rule_needs("a result"))
        out = node.outputs[0].type.dims
        must_interleave(node, Piece("result"), out, along, whole, pairs)
        return [Expected((node.inputs[0].type.dtype,), out)]

    def spread(self, node: Node) -> Sequence[Spread]:
        """Where what is looked up is sharded, each device gives what it has and zeros for the rest: the result is
        partial."""
        found = places_of(node, node.outputs[0])
        walked = Walked(node, [range(len(node.inputs[0].type.dims)), found.indices], found.cut)
        masked = any(walked.axes.get(label) for label in found.looked_up)
        due = pending(node, ((0,),), SUMS if masked else ANY)
        if due.partial and due.reduction == SUM and not _fills_by_parts(node):
            due = nothing_pending(node)
        return [walked.result(found.mixed, due, found.looked_up, self.reduction(node))]

    def links(self, node: Node) -> Iterator[tuple[Place, Place]]:
        if "dimension_numbers" not in (params := params_of(node)):
            return
        numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
        (operand, indices), result = node.inputs, node.outputs[0]
        dropped = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
        windows = iter([axis for axis in range(len(sizes)) if axis not in dropped])
        batch = iter(range(len(indices.type.dims) - 1))
        paired = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
        yield from [((operand, a), (indices, b)) for a, b in paired]
        for position in range(len(result.type.dims)):
            if position not in numbers.offset_dims:
                yield (indices, next(batch)), (result, position)
            elif sizes[axis := next(windows)] == operand.type.dims[axis].size and axis not in numbers.start_index_map:
                yield (operand, axis), (result, position)

    def reduced(self, node: Node) -> Names:
        # Each device looks up what it has and adds zero for the rest: a sum over the shards of the indexed names.
        whole = node.names("whole")
        return tuple(name for name in node.names("along") if name not in whole)

    def blocked(self, node: Node) -> Names:
        # Keys are no numbers: there is no sum of them.
        own = node.names("along") if is_key(node.inputs[0].type.dtype) else ()
        return (*node.names("whole"), *own, *self.shuffled(node))

    def padding(self, node: Node, names: Collection[str]) -> Sequence[Filling] | None:
        """No place of the padding is looked up, if indices beyond the end do as they did (see `Indexed.beyond`)."""
        return None if set(self.replicated(node)) & set(names) else [{}, {}]

    def padded(self, node: Node, before: Node) -> Mapping[str, Any]:
        """What took all of a dim takes all of it."""
        params = params_of(node)
        if "slice_sizes" not in params:
            return params
        dims = zip(params["slice_sizes"], before.inputs[0].type.dims, node.inputs[0].type.dims, strict=True)
        return {**params, "slice_sizes": tuple([new.size if size == old.size else size for size, old, new in dims])}

    def reduction(self, node: Node) -> str:
        return "or" if node.inputs[0].type.dtype == "bool" else SUM

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Of an axis that is sharded and looked up, each device looks up the places that it has; the rest is 0."""
        assert node.origin is not None
        (operand, indices), params = arrays, dict(node.origin.params)
        numbers, dims = params["dimension_numbers"], node.inputs[0].type.dims
        params["slice_sizes"] = tuple(
            [
                shards.length(dim) if size == dim.size else size
                for size, dim in zip(params["slice_sizes"], dims, strict=True)
            ]
        )
        looked_up_dims = [dims[int(position)] for position in numbers.start_index_map]
        columns = {column: dim for column, dim in enumerate(looked_up_dims) if dim.mesh}
        if not columns:
            return bind_primitive(node, arrays, params)
        near, here, outside = own_places(indices, columns, clips(params["mode"]), shards)
        params |= {"indices_are_sorted": False, "unique_indices": False}
        (found,) = bind_primitive(node, [operand, near], params)
        batch = [position for position in range(found.ndim) if position not in numbers.offset_dims]

        def spread(mask: Any) -> Any:
            return lax.broadcast_in_dim(mask, found.shape, batch)

        rest = jnp.zeros((), found.dtype)
        if outside is not None and params["mode"] == GatherScatterMode.FILL_OR_DROP:
            # What lies outside of the whole array is filled once.
            first = shards.index([axis for dim in columns.values() for axis in dim.mesh]) == 0
            rest = jnp.where(spread(outside & first), _filling(params.get("fill_value"), found.dtype), rest)
        return [jnp.where(spread(here), found, rest)]

    def looked_up_axes(self, node: Node) -> Sequence[int]:
        return tuple(params_of(node)["dimension_numbers"].start_index_map)

    def ring_params(self, node: Node) -> Mapping[str, Any]:
        params = params_of(node)
        filling = params.get("fill_value")
        return {**params, "fill_value": int(literal(filling))} if touches(node) and filling is not None else params


def _filling(given: Any, dtype: Any) -> Any:
    """What `jax.lax.gather` fills with where nothing else is given."""
    if given is not None:
        return jnp.asarray(given, dtype)
    if jnp.issubdtype(dtype, jnp.inexact):
        return jnp.asarray(jnp.nan, dtype)
    if jnp.issubdtype(dtype, jnp.signedinteger):
        return jnp.asarray(jnp.iinfo(dtype).min, dtype)
    return jnp.asarray(True if dtype == np.bool_ else jnp.iinfo(dtype).max, dtype)


def _fills_by_parts(node: Node) -> bool:
    """Whether the sum of what devices fill with is what one would fill with: NaN, or 0."""
    mode, given = params_of(node).get("mode"), params_of(node).get("fill_value")
    fills = mode is None or mode == GatherScatterMode.FILL_OR_DROP
    return not fills or given == 0 or (given is None and family(node.inputs[0].type.dtype) > 1)
