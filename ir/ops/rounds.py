"""Bodies by which the values of an op go round between devices: what they look like, and whether they are right.

Such a body takes shards of this device and gives those of the device before it, along some mesh axes: a `ring_permute`
of each, and nothing else. Run once less often than there are devices, it has shown each of them all shards; once more,
and each shard is where it began.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ir import layout_errors
from ir.graph import Attr, Graph, Node, Value
from ir.ops.rule import OP
from ir.ops.spread import Misplaced

NAMES = ("onward", "back")
"""What such bodies are called: that of what goes round, and that of what comes back to where it began."""


def added(
    node: Node,
    axes: Sequence[str],
    travels: Sequence[Sequence[Value]],
    sizes: Mapping[str, int],
    fresh: Callable[[Value], Value],
    both: bool = False,
) -> Node:
    """A node with a body for each list of values that go round `axes`, half of each the one way and half the other
    where it is `both`."""
    bodies = [
        _body(name, values, tuple(axes), node, sizes, fresh, both) for name, values in zip(NAMES, travels, strict=False)
    ]
    return replace(node, bodies=tuple(bodies))


def _body(
    name: str,
    values: Sequence[Value],
    axes: tuple[str, ...],
    node: Node,
    sizes: Mapping[str, int],
    fresh: Callable[[Value], Value],
    both: bool,
) -> Graph:
    given, made = [fresh(value) for value in values], [fresh(value) for value in values]
    nodes: list[Node] = []
    for before, after in zip(given, made, strict=True):
        moved = tuple([dim.name or "" for dim in before.type.dims if dim.mesh == axes])
        volume = before.type.local_bytes(sizes)
        attrs: dict[str, Attr] = {"axis": moved, "bytes": volume, "mesh": axes, "moving": "key"}
        if both:
            attrs["both"] = True
        nodes.append(Node("ring_permute", "", (before,), (after,), attrs, (), node.phase, node.source))
    return Graph(name, tuple(given), tuple(nodes), tuple(made))


def go_both_ways(node: Node) -> bool:
    """Whether half of each value goes round the other way."""
    return any(each.attrs.get("both") for body in node.bodies for each in body.nodes)


def check(node: Node, axes: Sequence[str], travels: Sequence[Sequence[Value]]) -> None:
    """Raises `Misplaced` where the bodies of a node do not pass on just these values, each once along `axes`, all of
    them both ways or none; where nothing goes round, there must be none."""
    wanted, both = travels if axes else (), go_both_ways(node)
    if len(node.bodies) != len(wanted):
        raise Misplaced(OP, layout_errors.goes_round(axes, len(wanted), len(node.bodies)))
    for body, values in zip(node.bodies, wanted, strict=True):
        types = [value.type for value in values]
        chain = [(each.inputs, each.words("mesh"), each.kind, bool(each.attrs.get("both"))) for each in body.nodes]
        right = [((value,), tuple(axes), "ring_permute", both) for value in body.inputs]
        made = [value for each in body.nodes for value in each.outputs]
        if [value.type for value in body.inputs] != types or chain != right or list(body.outputs) != made:
            raise Misplaced(OP, layout_errors.passes_on_otherwise(axes, body.name))
