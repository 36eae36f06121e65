"""The price of a node under a layout (or under a whole grid of layouts at once).

A step takes

    T = C + A + O - min(o * O + a * A, C)

where C is the time of the operations (each the larger of its arithmetic and its memory traffic, and the start of a
kernel), A the communication of
activations, and O the communication of parameters and gradients. `o` and `a` are the shares of the two that the chip is
trusted to hide behind its computing (`Chip.overlap`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ir.graph import Node, Value
from ir.ops import OPS, op_of
from ir.types import item_size
from passes.hardware.chip import Chip, Overlap
from passes.hardware.network import Network
from passes.sharding.iteration_space import Reshard, Space, space_of, value_layout
from passes.sharding.mesh import DeviceMesh, IntArray
from passes.sharding.reshard import Step, reshard_steps
from passes.sharding.roles import Roles
from passes.sharding.rules import Layout, ShardingRules

_HELD = 4
"""Bytes of an element of what an operation holds (`Op.held`)."""
_WAYS = (1 << 50) - 27
"""A prime: numbers below it, times 4093, are 64 bits."""


@dataclass
class Cost:
    """Seconds: of operations, of activations' communication, of parameters' and gradients' communication; and of what
    goes round while an operation computes and is hidden behind that (`passes.planner.rounds`)."""

    compute: Any = 0.0
    activations: Any = 0.0
    hidden: Any = 0.0
    covered: Any = 0.0

    def add(self, other: "Cost", times: float = 1.0) -> None:
        self.compute = self.compute + times * other.compute
        self.activations = self.activations + times * other.activations
        self.hidden = self.hidden + times * other.hidden
        self.covered = self.covered + times * other.covered


def step_seconds(compute: Any, activations: Any, hidden: Any, overlap: Overlap) -> Any:
    """T of the module's formula."""
    hideable = overlap.state * hidden + overlap.activations * activations
    return compute + activations + hidden - np.minimum(hideable, compute)


def local_bytes(value: Value, roles: Roles, rules: ShardingRules) -> Any:
    """Bytes of a value on one device, as it is sharded."""
    size: Any = value.type.elements * item_size(value.type.dtype)
    for mask in value_layout(value, roles, rules).values():
        size = size // rules.mesh.group(mask)
    return size


def operation_seconds(
    node: Node,
    moved: Iterable[Value],
    roles: Roles,
    rules: ShardingRules,
    chip: Chip,
    space: Space | None = None,
    work: "Work | None" = None,
) -> Any:
    """Time of the operation itself: the larger of arithmetic and memory traffic, and the start of what is a kernel.
    `space` and `work` are those of the node where they are known."""
    traffic: Any = 0
    for value in moved:
        traffic = traffic + local_bytes(value, roles, rules)
    work = work or Work.of(node, chip.memory.kernel)
    flops: Any = work.flops
    start: Any = started(node, moved, chip)
    if flops:
        space = space or space_of(node, roles)
        layout = rules.layout(space.sizes, space.role, space.blocked)
        flops, spilled = work.under(layout)
        held: Any = work.held
        for mask in layout.values():
            parts = rules.mesh.group(mask)
            flops, spilled, held = flops / parts, spilled / parts, held / parts
        traffic = traffic + spilled * (held > chip.memory.on_chip)
        for name in node.names("ring"):  # each turn is a kernel of its own
            start = start * rules.mesh.group(layout[name])
    return np.maximum(flops / chip.rate(product_width(node)), traffic / chip.memory_bandwidth) + start


@dataclass(frozen=True)
class Work:
    """What an operation does besides reading and writing its operands and results.

    Attributes:
        flops, spilled: its arithmetic, and the bytes that it writes and reads on the way, as XLA computes it.
        held: the bytes that it holds on the way: where they fit on the chip, nothing is spilled.
        kernel_flops: its arithmetic where a kernel of the chip computes it, which spills nothing.
        replicated: the names that must be replicated for that; None where no kernel does.
    """

    flops: float
    spilled: float = 0.0
    held: float = 0.0
    kernel_flops: float = 0.0
    replicated: tuple[str, ...] | None = None

    @staticmethod
    def of(node: Node, kernel: str) -> "Work":
        """Args:
        kernel: that of the chip, if there is one.
        """
        op = op_of(node)
        flops, spilled = float(op.flops(node)), float(op.spilled(node))
        held = float(sum(_HELD * prod(dim.size for dim in dims) for dims in op.held(node)))
        replicated = op.by_kernel(node, kernel) if spilled else None
        if replicated is None:
            return Work(flops, spilled, held)
        return Work(flops, spilled, held, float(op.kernel_flops(node, kernel)), replicated)

    def under(self, layout: Layout) -> tuple[Any, Any]:
        """Operations and spilled bytes of the whole op under a layout of its iteration space."""
        if self.replicated is None:
            return self.flops, self.spilled
        by_kernel: Any = sum((np.asarray(layout.get(name, 0)) for name in self.replicated), np.asarray(0)) == 0
        return np.where(by_kernel, self.kernel_flops, self.flops), np.where(by_kernel, 0.0, self.spilled)


def started(node: Node, moved: Iterable[Value], chip: Chip) -> float:
    """What a kernel takes besides its work: 0.0 for what is computed in another one, which writes nothing itself."""
    written = {value.id for value in moved}
    return chip.start if any(value.id in written for value in node.outputs) else 0.0


def product_width(node: Node) -> int:
    """Bytes of an element of what a product multiplies: its first two operands."""
    return max((item_size(value.type.dtype) for value in node.value_inputs[:2]), default=2)


class Sent:
    """The steps that copies of a value have made already: what begins with the same ones goes on from there. A way is
    known by a number, which each of its steps changes."""

    def __init__(self, mesh: DeviceMesh) -> None:
        self.mesh = mesh
        self.before: list[IntArray] = []
        self.words: dict[tuple[str, str | None], int] = {}

    def ways(self, steps: Sequence[Step]) -> list[Any]:
        """Of each step whether it is new, 1 or 0. They count as made from then on."""
        fresh: list[Any] = []
        way: IntArray = np.zeros((), np.int64)
        made: list[IntArray] = []
        for step in steps:
            word = self.words.setdefault((step.kind, step.name), len(self.words))
            mask: IntArray = np.asarray(step.mask, np.int64)
            after: IntArray = (way * 4093 + word * self.mesh.masks + mask) % _WAYS
            way = np.where(mask != 0, after, way)
            new: Any = 1.0
            for other in self.before:
                new = new * (way != other)
            fresh.append(new)
            made.append(way)
        self.before += made
        return fresh


def reshard_cost(
    reshard: Reshard, rules: ShardingRules, network: Network, active: Any = 1.0, sent: Sent | None = None
) -> Cost:
    """Price of resharding a value from one layout to another, scaled by `active` (0 where an earlier copy serves).

    Args:
        sent: what other copies of the value have made of the way already, which costs nothing again.
    """
    seconds: Any = 0.0
    awaited = _awaited(reshard)
    way = reshard.value.type, reshard.source, reshard.pending, reshard.target
    steps = list(reshard_steps(*way, network.mesh, reshard.reduction, rules.compute))
    fresh: list[Any] = [1.0] * len(steps) if sent is None else sent.ways(steps)
    for step, new in zip(steps, fresh, strict=True):
        if OPS[step.kind].communicates:
            seconds = seconds + network.seconds(step.kind, step.mask, step.bytes, awaited) * new
    return _sent(reshard, seconds * active)


def permute_cost(reshard: Reshard, mask: Any, network: Network) -> Cost:
    """Price of a permute along some mesh axes of a value as it is before it is resharded."""
    size: Any = reshard.value.type.elements * item_size(reshard.value.type.dtype)
    for sharded in reshard.source.values():
        size = size // network.mesh.group(sharded)
    return _sent(reshard, network.seconds("permute", mask, size, _awaited(reshard)))


def _awaited(reshard: Reshard) -> bool:
    return reshard.role == "compute" and reshard.target_role == "compute"


def _sent(reshard: Reshard, seconds: Any) -> Cost:
    return Cost(activations=seconds) if _awaited(reshard) else Cost(hidden=seconds)
