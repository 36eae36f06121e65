"""Which float32 values products take as bfloat16, and nothing else reads.

A TPU multiplies float32 as bfloat16 unless a precision is asked for, so its compiler brings such values there in half
the bytes; kernels, such as that of products in groups of rows, read them as they are.
"""

from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from ir.ops.op import params_of


def read_in_halves(node: Node, value: Value, graph: Graph) -> bool:
    """Whether a node of a body only multiplies a float32, and at JAX's default precision. What only delays it, or
    brings it to another place, leaves that to what comes next."""
    if value.type.dtype != "float32":
        return False
    if op_of(node).waits:
        return node.inputs[0] == value and halved(node.outputs[0], graph)
    if op_of(node).moves_data_only:
        return halved(node.outputs[0], graph)
    if not entered(node):
        in_kernel = bool(op_of(node).by_rows(node))
        return op_of(node).multiplies and not in_kernel and params_of(node).get("precision") is None
    for body, feeds in op_of(node).body_operands(node):
        if not all([halved(inside, body) for operand, inside, _ in feeds if operand == value]):
            return False
    return True


def halved(value: Value, graph: Graph) -> bool:
    """Whether all that reads a value of a body takes it as bfloat16."""
    readers = [node for node in graph.nodes if value in node.inputs]
    return value not in graph.outputs and all([read_in_halves(node, value, graph) for node in readers])
