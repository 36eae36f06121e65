"""gather: looks up the dims in `along` by the indices in the second operand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ir import errors
from ir.graph import Node
from ir.ops.indexed import Indexed, looked_up, must_interleave
from ir.ops.op import Names, Place, params_of
from ir.ops.rule import Expected, Piece, must, operands
from ir.ring import literal, touches


class Gather(Indexed):
    """The result has the dims of the indices and, between them, what is left of the operand."""

    kind = "gather"
    meetings = {"gather": "a lookup of {pairs}: what is looked up together must be the same axis"}
    picks = True
    reads_whole_parameters = True

    def results(self, node: Node) -> Sequence[Expected]:
        operands(node, 2, 2)
        along, whole, pairs = looked_up(node)
        must(bool(node.outputs), Piece("op"), errors.rule_needs("a result"))
        out = node.outputs[0].type.dims
        must_interleave(node, Piece("result"), out, along, whole, pairs)
        return [Expected((node.inputs[0].type.dtype,), out)]

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
        return node.names("whole")

    def looked_up_axes(self, node: Node) -> Sequence[int]:
        return tuple(params_of(node)["dimension_numbers"].start_index_map)

    def ring_params(self, node: Node) -> Mapping[str, Any]:
        params = params_of(node)
        filling = params.get("fill_value")
        return {**params, "fill_value": int(literal(filling))} if touches(node) and filling is not None else params
