"""What the TPU compiler sends for the collectives of a printed program, where that can be told from the program.

The printed program is the same wherever it runs: on CPU devices a product takes float32 as it is, and there are no
tiles. Compiled for a TPU, three things about it are certain:

- what only products read that take bfloat16, as those of float32 values do at JAX's default precision, is gathered in
  bfloat16 inside of a slice;
- a vector is gathered inside of a slice, or between slices alone, in shards of whole rows of 128 lanes, and never
  scattered inside of one: in place of either it is reduced on every device, amid zeros or in full;
- over all of a slice of three dims, or of two alike of four chips or more, nothing is reduce-scattered: it is
  all-reduced, which is as many bytes of a collective that crosses the network twice.

Over several slices a gather between them that one inside of each follows, and a reduce-scatter inside that one between
them follows, are one collective over both: no compiled program tells the two from one of a single dim.

Nothing is sent of what is one number everywhere.

Each of the three was seen of programs of one collective, compiled for v4, v5e, v5p and v6e. So the prediction that is
set beside the compiled program says what is sent. Other habits depend on the layouts that the compiler chooses:
`levanter.compiler.verify.tpu_habits`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any

from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from ir.types import Dim, item_size
from levanter.compiler.verify.topology import Topology
from levanter.compiler.verify.tpu_habits import HALVED
from passes.hardware.network import SLOW_AXIS
from passes.planner.halves import halved
from passes.planner.layouts import Layouts
from passes.report.units import format_bytes
from passes.summary import collectives

VECTOR = (
    "the TPU compiler gathers vectors in whole rows of 128 lanes only and scatters none: here it reduces the whole "
    "value on every device"
)
WHOLE = (
    "the TPU compiler reduce-scatters nothing over a whole slice of three dims, or of two alike of four chips or more: "
    "here it reduces the whole value on every device"
)
JOINT = "a collective inside of a slice and one between slices, one right after the other, are one over both"
_LANES = 128
_SQUARE = 4
"""Chips along both dims of a slice over which nothing is reduce-scattered."""


@dataclass
class TpuSends:
    """What is sent in place of what is printed.

    Attributes:
        narrow: numbers of the gathered values that only products read, which take them as bfloat16.
        whole: the mesh axes of a whole slice over which nothing is reduce-scattered; empty where there is no such.
        sizes: of each mesh axis.
        joint: numbers of the results of two collectives that are one.
        differing: how many there were of each (kind, mesh axes, bytes) printed and (kind, bytes) sent, and why.
    """

    narrow: frozenset[int]
    whole: frozenset[str]
    sizes: Mapping[str, int]
    joint: frozenset[int] = frozenset()
    differing: dict[tuple[str, tuple[str, ...], int, str, int, str], int] = field(
        default_factory=dict[tuple[str, tuple[str, ...], int, str, int, str], int]
    )

    @classmethod
    def of(cls, placed: Graph, plan: Layouts, topology: Topology, joint: Iterable[int] = ()) -> TpuSends:
        inside = frozenset(axis for axis, size in plan.mesh.as_dict().items() if axis != SLOW_AXIS and size > 1)
        whole = inside if _all_reduces(topology) else frozenset[str]()
        return cls(frozenset(narrowed(placed)), whole, plan.mesh.as_dict(), frozenset(joint))

    def sent(self, node: Node, kind: str, volume: int, times: int) -> tuple[str, int]:
        """Kind and bytes of a collective of a node that is made so many times a step."""
        found = self._sent(node, kind, volume)
        if found is not None:
            sent, size, reason = found
            key = (kind, node.words("mesh"), volume, sent, size, reason)
            self.differing[key] = self.differing.get(key, 0) + times
            return sent, size
        return kind, volume

    def _sent(self, node: Node, kind: str, volume: int) -> tuple[str, int, str] | None:
        gathers, scatters = kind == "all_gather", kind == "reduce_scatter"
        if not (gathers or scatters):
            return None
        (result,) = node.outputs
        over = set(node.words("mesh"))
        local = [self._local(dim) for dim in result.type.dims]
        if scatters and self.whole and self.whole == over:
            return "all_reduce", volume, WHOLE
        vector = sum(size > 1 for size in local) <= 1
        inside, between = SLOW_AXIS not in over, over == {SLOW_AXIS}
        if vector and (scatters and inside or gathers and (inside or between) and self._shard(node) % _LANES):
            return "all_reduce", volume, VECTOR
        if gathers and result.id in self.narrow and over != {SLOW_AXIS}:
            return kind, volume * item_size("bfloat16") // item_size(result.type.dtype), HALVED
        return (kind, volume, JOINT) if result.id in self.joint else None

    def _local(self, dim: Dim) -> int:
        return dim.size // prod(self.sizes[axis] for axis in dim.mesh)

    def _shard(self, node: Node) -> int:
        """Elements of one device's shard of what is gathered."""
        return prod(self._local(dim) for dim in node.inputs[0].type.dims)

    def explained(self) -> list[dict[str, str]]:
        """What is sent in another way than it is printed, and why: as `explained` of docs/compile.md."""
        found: list[dict[str, str]] = []
        for (kind, axes, volume, sent, size, reason), times in self.differing.items():
            over = f"{kind} over {', '.join(axes)} of {format_bytes(volume)}"
            found.append({"what": f"{times} × {over}: sent as {sent} of {format_bytes(size)}", "reason": reason})
        return found


def sent_rows(placed: Graph, plan: Layouts, topology: Topology) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The collectives of a step as a TPU sends them, as rows of docs/compile.md, and those that are printed otherwise.

    Args:
        placed: the program of one device.
    """
    joint: set[int] = set()
    placed = _joined(placed, plan.mesh.axes, joint)
    sends = TpuSends.of(placed, plan, topology, joint)
    rows = [{**asdict(each), "mesh_axes": list(each.mesh_axes)} for each in collectives(placed, plan, sends.sent)]
    return rows, sends.explained()


def _joined(graph: Graph, axes: Sequence[str], joint: set[int]) -> Graph:
    """A placed graph, for counting, with each pair of collectives that are one as one of them (`joint` gets their
    results), and without gathers of what is one number everywhere: a compiler makes that where it is."""
    reads = Counter(value.id for node in graph.nodes for value in node.value_inputs)
    reads.update(operand.id for operand in graph.outputs if isinstance(operand, Value))
    nodes: dict[int, Node] = {}
    for node in graph.nodes:
        before = nodes.get(node.value_inputs[0].id) if node.value_inputs else None
        if before is not None and reads[before.outputs[0].id] == 1 and _are_one(before, node):
            over = {*before.words("mesh"), *node.words("mesh")}
            larger = max(before.count("bytes"), node.count("bytes"))
            mesh = tuple(axis for axis in axes if axis in over)
            node = replace(node, inputs=before.inputs, attrs={**node.attrs, "mesh": mesh, "bytes": larger})
            del nodes[before.outputs[0].id]
            joint.add(node.outputs[0].id)
        if before is not None and node.kind == "all_gather" and before.kind == "broadcast" and not before.value_inputs:
            continue
        node = replace(node, bodies=tuple(_joined(body, axes, joint) for body in node.bodies))
        nodes[node.outputs[0].id if node.outputs else -len(nodes) - 1] = node
    return replace(graph, nodes=tuple(nodes.values()))


def _are_one(before: Node, node: Node) -> bool:
    """Whether a node gathers, or scatters, inside of slices what one just before did between them, or the reverse."""
    first, second = (SLOW_AXIS in each.words("mesh") for each in (before, node))
    order = {"all_gather": (True, False), "reduce_scatter": (False, True)}
    return before.kind == node.kind and order.get(node.kind) == (first, second)


def narrowed(graph: Graph) -> list[int]:
    """Numbers of the float32 values that are gathered for products alone, bodies included."""
    found: list[int] = []
    for node in graph.nodes:
        if op_of(node).communicates:
            found += [value.id for value in node.outputs if _is_float(value) and halved(value, graph)]
        for body in entered(node):
            found += narrowed(body)
    return found


def _is_float(value: Value) -> bool:
    return value.type.dtype == "float32"


def _all_reduces(topology: Topology) -> bool:
    dims = [size for size in topology.dims if size > 1]
    return len(dims) == 3 or (len(dims) == 2 and dims[0] == dims[1] >= _SQUARE)
