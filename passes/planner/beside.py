"""What of a step's collectives a TPU runs beside operations: gathers of parameters behind products.

Under the flags of docs/getting-started-tpu-vm.md libtpu runs a gather in pieces inside of fusions, where a product that
does not need it comes before its first reader, and no loop between them: a loop is waited for, and begins anew in each
trip. Of eight unrolled layers and of the layers of a ViT it hides all gathers but those of the first product of each
such part, of GPT-2's all but a tenth. One that takes no longer than its hops takes longer than the operation beside it.
Nothing else is run beside operations: no reduce-scatter, and of 5 ms of all-reduces of unrolled layers none.
"""

from ir.graph import Graph
from ir.ops import entered, op_of


def behind_products(graph: Graph, before: bool = False) -> list[bool]:
    """Of each node of a scope whether a product comes before it, and no loop between them.

    Args:
        before: whether one comes before the scope.
    """
    found: list[bool] = []
    for node in graph.nodes:
        found.append(before)
        if entered(node):
            before = False
        elif op_of(node).flops(node):
            before = True
    return found
