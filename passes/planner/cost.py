"""The price of a node under a layout (or under a whole grid of layouts at once).

A step takes

    T = C + A + O - min(o * O + a * A, C)

where C is the time of the operations (each the larger of its arithmetic and its memory traffic, and the start of a
kernel), A the communication of
activations, and O the communication of parameters and gradients. `o` and `a` are the shares of the two that the chip is
trusted to hide behind its computing (`Chip.overlap`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ir.graph import Node
from ir.ops import OPS, op_of
from ir.types import item_size
from passes.hardware.chip import Chip, Overlap
from passes.hardware.memory import ChipMemory
from passes.hardware.network import Network
from passes.planner.moved import Moved, Turned
from passes.planner.rounds import operations
from passes.planner.sending import SentOf, SentSteps, sent_steps
from passes.sharding.iteration_space import Reshard, Space, space_of
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
    """Seconds: of operations, of communication that is waited for (of activations, and what cannot be hidden), of
    other communication of parameters and gradients; and of what
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


def operation_seconds(
    node: Node,
    moved: Sequence[Moved | Turned],
    roles: Roles,
    rules: ShardingRules,
    chip: Chip,
    space: Space | None = None,
    work: "Work | None" = None,
) -> Any:
    """Time of the operation itself: the larger of arithmetic and memory traffic, the start of what is a kernel, and
    copies that it needs.
    `space` and `work` are those of the node where they are known."""
    traffic: Any = 0
    start: Any = started(moved, chip)
    for each in moved:
        if isinstance(each, Turned):
            start = start + each.seconds(rules, chip.memory)
        else:
            traffic = traffic + each.bytes(rules, chip.memory)
    work = work or Work.of(node, chip.memory)
    flops: Any = work.flops
    if flops:
        space = space or space_of(node, roles)
        layout = rules.layout(space.sizes, space.role, space.blocked)
        flops, spilled, kernels = work.under(layout)
        held: Any = work.held
        for mask in layout.values():
            parts = rules.mesh.group(mask)
            flops, spilled, held = flops / parts, spilled / parts, held / parts
        traffic = traffic + spilled * (held > chip.memory.on_chip)
        for name in node.names("ring"):
            kernels = operations(node, rules.mesh.group(layout[name]), kernels)
        start = start * kernels
    return np.maximum(flops / chip.rate(product_width(node)), traffic / chip.traffic_rate) + start


@dataclass(frozen=True)
class Work:
    """What an operation does besides reading and writing its operands and results.

    Attributes:
        flops, spilled: its arithmetic, and the bytes that it writes and reads on the way, as XLA computes it.
        held: the bytes that it holds on the way: where they fit on the chip, nothing is spilled.
        kernel_flops: its arithmetic where a kernel of the chip computes it, which spills nothing.
        replicated: the names that must be replicated for that; None where no kernel does.
        kernels: in how many operations it is computed, by XLA and by that kernel.
    """

    flops: float
    spilled: float = 0.0
    held: float = 0.0
    kernel_flops: float = 0.0
    replicated: tuple[str, ...] | None = None
    kernels: tuple[int, int] = (1, 1)

    @staticmethod
    def of(node: Node, chip: ChipMemory) -> "Work":
        op, kernel = op_of(node), chip.kernel
        flops = float(op.flops_in_tiles(node) if chip.in_tiles else op.flops(node))
        spilled = float(op.spilled(node))
        held = float(sum(_HELD * prod(dim.size for dim in dims) for dims in op.held(node)))
        replicated = op.by_kernel(node, kernel) if spilled else None
        if replicated is None:
            return Work(flops, spilled, held, kernels=(op.kernels(node, ""), 1))
        kernels = op.kernels(node, ""), op.kernels(node, kernel)
        return Work(flops, spilled, held, float(op.kernel_flops(node, kernel)), replicated, kernels)

    def under(self, layout: Layout) -> tuple[Any, Any, Any]:
        """Arithmetic, spilled bytes and operations of the whole op under a layout of its iteration space."""
        if self.replicated is None:
            return self.flops, self.spilled, self.kernels[0]
        by_kernel: Any = sum((np.asarray(layout.get(name, 0)) for name in self.replicated), np.asarray(0)) == 0
        each = (self.kernel_flops, self.flops), (0.0, self.spilled), self.kernels[::-1]
        flops, spilled, kernels = (np.where(by_kernel, *pair) for pair in each)
        return flops, spilled, kernels


def started(moved: Sequence[Moved | Turned], chip: Chip) -> float:
    """What a kernel takes besides its work: 0.0 for what is computed in another one, which moves nothing itself."""
    return chip.start if moved else 0.0


def product_width(node: Node) -> int:
    """Bytes of an element of what a product multiplies: its first two operands."""
    return max((item_size(value.type.dtype) for value in node.value_inputs[:2]), default=2)


class Ways:
    """The ways that copies of a value go: what begins with the same steps has these in common. How far a copy has come
    is known by a number, which each of its steps changes."""

    def __init__(self, mesh: DeviceMesh) -> None:
        self.mesh = mesh
        self.words: dict[tuple[str, str | None], int] = {}

    def numbers(self, steps: Sequence[Step]) -> list[IntArray]:
        """Where a copy is after each step."""
        way: IntArray = np.zeros((), np.int64)
        made: list[IntArray] = []
        for step in steps:
            word = self.words.setdefault((step.kind, step.name), len(self.words))
            mask: IntArray = np.asarray(step.mask, np.int64)
            after: IntArray = (way * 4093 + word * self.mesh.masks + mask) % _WAYS
            way = np.where(mask != 0, after, way)
            made.append(way)
        return made

    def fresh(self, numbers: Sequence[Sequence[IntArray]], i: int) -> list[Any]:
        """Of each step of a copy whether no copy before has made it, 1 or 0."""
        return [1.0 * ~self.among(number, numbers[:i]) for number in numbers[i]]

    def going_on(self, numbers: Sequence[Sequence[IntArray]], i: int) -> list[Any]:
        """Of each step of a copy whether all copies that are where it began make it."""
        found: list[Any] = []
        before: IntArray = np.zeros((), np.int64)
        for number in numbers[i]:
            every: Any = np.asarray(True)
            for k, each in enumerate(numbers):
                if k != i:
                    every = every & (~self.among(before, [each]) | self.among(number, [each]))
            found.append(every)
            before = number
        return found

    def among(self, number: IntArray, others: Sequence[Sequence[IntArray]]) -> Any:
        """Whether some copies come by there."""
        found: Any = np.asarray(False)
        for each in others:
            for there in each:
                found = found | (number == there)
        return found


def reshard_cost(
    reshard: Reshard, rules: ShardingRules, network: Network, active: Any = 1.0, halved: Any = False
) -> Cost:
    """Price of resharding a value from one layout to another, scaled by `active` (0 where an earlier copy serves).

    Args:
        halved: whether only products read the result that take it as bfloat16.
    """
    return copies_cost([Copy(reshard, halved)], rules, network, active)


@dataclass(frozen=True)
class Copy:
    """A value on its way to another layout, and whether only products read it there that take it as bfloat16."""

    reshard: Reshard
    halved: bool = False


def copies_cost(
    copies: Sequence[Copy],
    rules: ShardingRules,
    network: Network,
    active: Any = 1.0,
    wide: Sequence[Reshard] = (),
    uniform: bool = False,
    beside: bool = False,
    sliced: bool = False,
) -> Cost:
    """Price of copies of a value, each of which goes on from where others have gone the same way.

    Args:
        active: scales it.
        wide: copies that are priced elsewhere, and are read by something else than products.
        uniform: whether the value is one number everywhere.
        beside: whether it is read behind a product (`passes.planner.beside`).
        sliced: whether it is a slice that a loop reads of a stack.
    """
    cost, ways = Cost(), Ways(network.mesh)
    every = [*copies, *[Copy(each) for each in wide]]
    steps = [list(_steps(each.reshard, rules)) for each in every]
    alone = len(every) == 1
    numbers = [[] if alone else ways.numbers(each) for each in steps]
    for i, copy in enumerate(copies):
        awaited = _awaited(copy.reshard)
        fresh: list[Any] = [1.0] * len(steps[i]) if alone else ways.fresh(numbers, i)
        if network.sends is None:
            made = [(step, new) for step, new in zip(steps[i], fresh, strict=True) if OPS[step.kind].communicates]
            seconds = [network.seconds(step.kind, step.mask, step.bytes, awaited) * new for step, new in made]
            found = SentSteps(sum(seconds, 0.0), 0.0, 0.0)
        else:
            halved = [np.asarray(copy.halved)] * len(steps[i])
            others = [numbers[k] for k, each in enumerate(every) if not each.halved]
            if copy.halved and others:
                halved = [~ways.among(number, others) for number in numbers[i]]
            goes_on = ways.going_on(numbers, i) if network.sends.slow and not alone else []
            found = sent_steps(
                steps[i], copy.reshard, network, awaited, SentOf(halved, uniform, fresh, goes_on, beside, sliced)
            )
        price = _sent(copy.reshard, found.seconds * active, found.waited * active)
        kernels = _kernels(steps[i], fresh) if network.chip.start else 0.0
        price.compute = (found.moved / network.chip.traffic_rate + kernels * network.chip.start) * active
        cost.add(price)
    return cost


def _kernels(steps: Sequence[Step], fresh: Sequence[Any]) -> Any:
    """How many operations bring shards to where a collective takes them, or to where readers do: one for each gather
    and each reduce-scatter. What is all-reduced stays where it is."""
    found: Any = 0.0
    for step, new in zip(steps, fresh, strict=True):
        if OPS[step.kind].gathers or OPS[step.kind].scatters:
            found = found + (np.asarray(step.mask) != 0) * new
    return found


def _steps(reshard: Reshard, rules: ShardingRules) -> Iterator[Step]:
    way = reshard.value.type, reshard.source, reshard.pending, reshard.target
    return reshard_steps(*way, rules.mesh, reshard.reduction, rules.compute)


def permute_cost(reshard: Reshard, mask: Any, network: Network) -> Cost:
    """Price of a permute along some mesh axes of a value as it is before it is resharded."""
    size: Any = reshard.value.type.elements * item_size(reshard.value.type.dtype)
    for sharded in reshard.source.values():
        size = size // network.mesh.group(sharded)
    awaited = _awaited(reshard)
    waited = network.waited_seconds("permute", mask, size, False) if not awaited else 0.0
    return _sent(reshard, network.seconds("permute", mask, size, awaited), waited)


def _awaited(reshard: Reshard) -> bool:
    return reshard.role == "compute" and reshard.target_role == "compute"


def _sent(reshard: Reshard, seconds: Any, waited: Any = 0.0) -> Cost:
    if _awaited(reshard):
        return Cost(activations=seconds)
    return Cost(activations=waited, hidden=seconds - waited)
