"""The list of op kinds, a line each."""

from ir.graph import Graph, Node
from ir.ops.all_gather import AllGather
from ir.ops.all_reduce import AllReduce
from ir.ops.all_to_all import AllToAll
from ir.ops.attention import Attention
from ir.ops.branch import Branch
from ir.ops.broadcast import Broadcast
from ir.ops.call import Call
from ir.ops.collective import Collective
from ir.ops.concat import Concat
from ir.ops.constant import Constant
from ir.ops.contract import Contract
from ir.ops.cumulate import Cumulate
from ir.ops.delay import Delay
from ir.ops.each import Each
from ir.ops.gather import Gather
from ir.ops.iota import Iota
from ir.ops.linalg import Linalg
from ir.ops.loop import Loop
from ir.ops.manual import Manual
from ir.ops.map import Map
from ir.ops.op import Op
from ir.ops.opaque import Opaque
from ir.ops.pad import Pad
from ir.ops.permute import Permute
from ir.ops.random import Random
from ir.ops.reduce import Reduce
from ir.ops.reduce_scatter import ReduceScatter
from ir.ops.rename import Rename
from ir.ops.reshape import Reshape
from ir.ops.reshard import Reshard
from ir.ops.ring_permute import RingPermute
from ir.ops.scatter import Scatter
from ir.ops.slice import Slice
from ir.ops.sort import Sort
from ir.ops.square_sum import SquareSum
from ir.ops.sum_in_order import SumInOrder

OPS: dict[str, Op] = {
    op.kind: op
    for op in (
        Map(),
        Contract(),
        Attention(),
        Reduce(),
        Broadcast(),
        Rename(),
        Reshape(),
        Slice(),
        Pad(),
        Concat(),
        Gather(),
        Scatter(),
        Iota(),
        Constant(),
        Cumulate(),
        Sort(),
        Linalg(),
        SumInOrder(),
        SquareSum(),
        Random(),
        Loop(),
        Each(),
        Branch(),
        Call(),
        Manual(),
        Collective(),
        Opaque(),
        Delay(),
        Reshard(),
        AllGather(),
        ReduceScatter(),
        AllReduce(),
        AllToAll(),
        Permute(),
        RingPermute(),
    )
}


def op_of(node: Node) -> Op:
    """The op of a node. Raises KeyError for a kind that is not in the list (see `ir.verify`)."""
    return OPS[node.kind]


def entered(node: Node) -> tuple[Graph, ...]:
    """The bodies that passes go into: all but those of a sealed node."""
    return node.bodies and OPS[node.kind].entered(node)
