"""What a plan says, as data: which name is sharded over which mesh axes, in two roles, and the predicted cost.

Passes read this; `passes.planner.plan.Plan` is the same with what a person asks of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ir.graph import Graph
from ir.types import TensorType
from passes.hardware.assignment import Words, assignment_of
from passes.hardware.chip import Chip, chip_of
from passes.hardware.network import Network
from passes.planner.document import PlanDocument
from passes.planner.remat import AS_IT_IS, Remat
from passes.sharding.mesh import DeviceMesh
from passes.sharding.rules import OrderWhere, Role, ShardingRules, sizes_of, with_layout
from passes.sharding.state import STATE_KINDS, StateKind

ROUNDING = 1e-6
"""Two ways to the same price add its parts in other orders."""


@dataclass(frozen=True)
class Search:
    """How the plan was found: how many plans the space has, and whether the result is provably optimal.

    `gap` is the most that the optimum could be faster, as a share of the plan's step; 0 where the plan is the optimum.
    """

    plans: int
    seconds: float
    optimal: bool
    gap: float = 0.0

    @classmethod
    def of(cls, plans: int, seconds: float, made: float, bound: float) -> "Search":
        """What there is to say of a search that found a step of `made` seconds, where none can be faster than
        `bound`."""
        gap = max(0.0, 1.0 - bound / made) if made > bound * (1 + ROUNDING) else 0.0
        return cls(plans, seconds, gap == 0.0, gap)

    @classmethod
    def joined(cls, searches: Sequence["Search"], made: float, bound: float) -> "Search":
        """The same of several searches together."""
        return cls.of(sum(each.plans for each in searches), sum(each.seconds for each in searches), made, bound)


@dataclass(frozen=True)
class RunnerUp:
    """The next best plan that is predicted slower, and what it would cost."""

    compute: Mapping[str, tuple[str, ...]]
    storage: Mapping[str, tuple[str, ...]]
    step: float
    peak: int
    order_where: OrderWhere = field(default_factory=dict[str, tuple[str, ...]])


@dataclass(frozen=True)
class Subject:
    """The step that a plan is for: a canonical graph without its origins, notes on it (what the checker finds, what no
    rule knows), and the operations that its model asks for (`passes.arithmetic`), which only origins tell."""

    graph: Graph
    notes: tuple[str, ...]
    flops: int = 0


@dataclass(frozen=True)
class Layouts:
    """Layouts by name on a mesh.

    `order` is the priority order of names, `order_where` says where it is another one; `compute` and `storage` map
    names to mesh axes (replicated names are absent). `storage` repeats the compute axes and adds the storage-only ones.
    `regather` says whether parameters that the forward pass gathered are gathered again in the backward pass, or kept
    till then; None where memory is to decide (see `passes.planner.regather`). `defer_sums` and `hoist_gathers` say the
    same of what loops do once: all of it, none of it, or None for as much as there is room for. `stored` are the kinds
    of state that storage axes shard: all is ZeRO-3, or FSDP; gradients and optimizer state ZeRO-2; optimizer state
    alone ZeRO-1. `subject` is the step that was planned; a plan by hand has none until it is carried out. `document` is
    the file that the plan was read from; what of it a step cannot follow is an error. `remat` says what the backward
    pass computes again (`passes.rematerialize`), and `microbatches` in how many parts the batch is computed, where the
    plan says that; the step is traced so, as it is with `moments`, what the optimizer keeps its running means in, and
    `gradients`, the same of gradients. `padding` says to what sizes names are padded (`passes.pad_axes`). `network`
    says which part of the physical network each mesh axis has (`passes.hardware.assignment`); left out, the usual one.
    `attention` says whether keys go round (`passes.ring_attention`).
    """

    mesh: DeviceMesh
    order: tuple[str, ...]
    compute: Mapping[str, tuple[str, ...]]
    storage: Mapping[str, tuple[str, ...]]
    hardware: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])
    search: Search | None = None
    runner_up: RunnerUp | None = None
    custom_chip: Chip | None = field(default=None, repr=False)
    regather: bool | None = None
    defer_sums: bool | None = None
    hoist_gathers: bool | None = None
    stored: tuple[StateKind, ...] = STATE_KINDS
    order_where: OrderWhere = field(default_factory=dict[str, tuple[str, ...]])
    remat: Remat = AS_IT_IS
    microbatches: int | None = None
    moments: str = ""
    gradients: str = ""
    padding: Mapping[str, int] = field(default_factory=dict[str, int])
    network: Words = ()
    attention: str = ""
    document: PlanDocument | None = field(default=None, compare=False, repr=False)
    subject: Subject | None = field(default=None, compare=False, repr=False)

    @property
    def chip(self) -> Chip:
        """The chip that the plan is for."""
        return self.custom_chip or chip_of(self.hardware)

    @cached_property
    def physical(self) -> Network:
        """The physical network. Raises `PlanError` where that of the plan is none of the chip."""
        given = assignment_of(self.network, self.mesh, self.chip) if self.network else None
        return Network(self.mesh, self.chip, given)

    @cached_property
    def rules(self) -> ShardingRules:
        """The sharding rules of the plan."""
        # On a mesh axis of one device nothing is split: it must not show as a collective of one.
        idle = self.mesh.mask([axis for axis, size in self.mesh.as_dict().items() if size == 1])
        compute = {name: self.mesh.mask(axes) & ~idle for name, axes in self.compute.items()}
        stored = {name: self.mesh.mask(axes) & ~idle for name, axes in self.storage.items()}
        extra = {name: mask & ~compute.get(name, 0) for name, mask in stored.items() if mask & ~compute.get(name, 0)}
        return ShardingRules(self.mesh, self.order, compute, extra, self.order_where)

    def placed(self, type_: TensorType, role: Role) -> TensorType:
        """The type of a value with its layout under this plan."""
        return with_layout(type_, self.rules.layout(sizes_of(type_), role), self.rules)
