"""Which values make a round trip to memory.

XLA fuses elementwise chains, so only some values exist: results of contractions, reductions and the like, what those
read, and what leaves a body. On a TPU a product computes an elementwise chain that it reads on the way, so that chain
does not exist either, though each of several products computes it anew; libraries of products for CPUs and GPUs read
arrays. Each value is written once; it is read once by every operation that is not fused, and once by all fused readers
together.
"""

from dataclasses import dataclass

from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of


@dataclass(frozen=True)
class Traffic:
    """Of one body: `kept` are the ids of the values that exist in memory, `moved[i]` what node i reads and writes."""

    kept: frozenset[int]
    moved: tuple[tuple[Value, ...], ...]


def traffic(graph: Graph, into_products: bool = False, lanes: int = 1) -> Traffic:
    """What each node of a body (nested bodies apart) moves to and from memory.

    Args:
        lanes: of a tile, in which arrays are kept. What is regrouped so that no dim which fills the lanes stays as it
            was is moved between tiles, which no product does on the way.
        into_products: whether elementwise chains are computed inside of the products that read them. It says what
            exists; to compute a chain anew in each product takes about the time that its round trip would, as XLA's
            estimates have it, so the time of a step is taken without it.
    """
    moved_between_tiles = {node.outputs[0].id for node in graph.nodes if _moves_tiles(node, lanes)}
    kept = {value.id for value in graph.inputs}
    kept |= {operand.id for operand in graph.outputs if isinstance(operand, Value)}
    for node in graph.nodes:
        if not op_of(node).fusible:
            kept |= {value.id for value in node.outputs}
            if not (op_of(node).fuses_operands or (into_products and op_of(node).multiplies)):
                kept |= {value.id for value in node.value_inputs}
            elif op_of(node).multiplies:
                kept |= {value.id for value in node.value_inputs if value.id in moved_between_tiles}
    read: set[int] = set()
    moved: list[tuple[Value, ...]] = []
    for node in graph.nodes:
        moved.append(() if entered(node) else _moved(node, kept, read))
    return Traffic(frozenset(kept), tuple(moved))


def _moves_tiles(node: Node, lanes: int) -> bool:
    if lanes == 1 or not (op_of(node).regroups(node) and node.value_inputs) or op_of(node).widens(node):
        return False
    dims = node.inputs[0].type.dims
    targets = op_of(node).targets(node) or [None] * len(dims)
    return not any([dim.size >= lanes for dim, target in zip(dims, targets, strict=True) if target is not None])


def _moved(node: Node, kept: set[int], read: set[int]) -> tuple[Value, ...]:
    written = [value for value in node.outputs if value.id in kept and value.type.dims]
    inputs = [value for value in node.value_inputs if value.id in kept and value.type.dims]
    if op_of(node).fusible:
        inputs = [value for value in inputs if value.id not in read]
        read.update(value.id for value in inputs)
    return (*inputs, *written)
