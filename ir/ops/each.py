"""each: a loop that carries nothing, so that every device can make trips of its own; inputs are constants and stacked
values, outputs are stacked results."""

from collections.abc import Sequence

from ir import layout_errors
from ir.graph import Node
from ir.ops.loop import Loop
from ir.ops.op import Names
from ir.ops.rule import Expected, Piece
from ir.ops.spread import Misplaced, Spread, layout_of
from ir.ops.structured import meeting_axes


class Each(Loop):
    """The dim that it goes over may be sharded. Inside, devices are at other trips at the same time, so nothing is
    sharded over, or sent along, the mesh axes that share the trips."""

    kind = "each"
    attributes = frozenset(("over", "trips", "constants"))
    meetings = {}
    shares_trips = True

    def results(self, node: Node) -> Sequence[Expected]:
        return super().results(as_scan(node))

    def spread(self, node: Node) -> Sequence[Spread]:
        """What is scanned over has its trips on the same devices; the results are stacked on these."""
        constants = node.count("constants", 0)
        stacked = node.inputs[constants:]
        axes = stacked[0].type.dims[0].mesh if stacked else ()
        for i, operand in enumerate(stacked, start=constants):
            dim = operand.type.dims[0]
            if dim.mesh != axes:
                raise Misplaced(Piece("operand", i), layout_errors.shards_not_aligned(dim, stacked[0].type.dims[0]))
        (body,) = node.bodies
        for value in body.values():
            found = {axis for dim in value.type.dims for axis in dim.mesh} | set(value.type.partial)
            if found & set(axes):
                raise Misplaced(Piece("op"), layout_errors.trips_use_axes(axes, str(value)))
        if meeting_axes(body) & set(axes):
            raise Misplaced(Piece("op"), layout_errors.trips_use_axes(axes, "a value"))
        for i, (operand, inside) in enumerate(zip(node.inputs, body.inputs, strict=True)):
            outside = layout_of(operand.type)
            kept = outside if i < constants else Spread(outside.dims[1:], outside.partial, outside.reduction)
            if not layout_of(inside.type).agrees(kept):
                wrong = layout_errors.two_layouts_cross(str(operand), str(outside), str(layout_of(inside.type)))
                raise Misplaced(Piece("operand", i), wrong)
        within = [layout_of(operand.type) for operand in body.outputs]
        return [Spread((axes, *each.dims), each.partial, each.reduction) for each in within]

    def scans(self, node: Node) -> bool:
        return True

    def scanned(self, node: Node) -> Names:
        return ()

    def trips(self, node: Node, devices: int) -> float:
        """Of what all devices share, each makes its part."""
        return node.count("trips") / devices


def as_scan(node: Node) -> Node:
    """The node with the attributes of a scan that carries nothing."""
    return Node("loop", "scan", node.inputs, node.outputs, {**node.attrs, "carries": 0}, node.bodies)
