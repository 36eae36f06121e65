"""What the steps of a reshard take as a chip's compiler sends them (`passes.hardware.sends`), for the price of a plan.

The same rules say of the collectives of a placed graph what is sent for them: `passes.sent`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from ir.ops import OPS
from ir.types import TensorType, item_size
from passes.hardware.network import Network
from passes.hardware.scatters import Among, Scattered, where
from passes.hardware.sends import Printed, is_vector
from passes.sharding.iteration_space import Reshard
from passes.sharding.mesh import DeviceMesh, Mask
from passes.sharding.reshard import Step
from passes.sharding.rules import Layout

_OF_CANDIDATES = ("mask", "bytes", "vector", "shard", "halved")


@dataclass(frozen=True)
class SentSteps:
    """What the steps of a reshard take: seconds of what is sent, and of these what is waited for whatever comes next;
    and bytes that each device moves through its memory where it makes, for its readers, what is not sent to it."""

    seconds: Any
    waited: Any
    moved: Any


@dataclass(frozen=True)
class SentOf:
    """What else decides what is sent for the steps of a reshard.

    Attributes:
        halved: of each step whether only products read the result that take it as bfloat16.
        uniform: whether the value is one number everywhere.
        fresh: of each step whether it is made for this copy of the value, 1, or was for another, 0.
        goes_on: of each step whether all copies of the value that are where it begins make it; empty: all do.
        beside: whether it is read behind a product (`passes.planner.beside`).
        sliced: whether it is a slice that a loop reads of a stack.
    """

    halved: Sequence[Any]
    uniform: bool
    fresh: Sequence[Any]
    goes_on: Sequence[Any] = ()
    beside: bool = False
    sliced: bool = False


def sent_steps(steps: Sequence[Step], reshard: Reshard, network: Network, awaited: bool, of: SentOf) -> SentSteps:
    """What the steps of a reshard take on a network whose compiler sends something else than is printed."""
    type_, before, devices = reshard.value.type, reshard.source, network.mesh.devices
    wide, thin = type_.dtype == "float32", sum([dim.size > devices for dim in type_.dims]) < 2
    several = sum([dim.size > 1 for dim in type_.dims]) > 1
    chain = _Chain(network, awaited, of.beside, Counter(step.kind for step in steps))
    seconds = waited = moved = np.float64(0.0)
    for i, step in enumerate(steps):
        op = OPS[step.kind]
        if not op.communicates:
            chain.cut(step.mask)
        elif of.uniform and op.gathers:
            moved = moved + 2 * step.bytes * (np.asarray(step.mask) != 0) * of.fresh[i]  # written, and read
        else:
            vector: Any = False
            shard: Any = 0
            halved: Any = False
            if thin and (op.gathers or op.scatters):
                vector = is_vector(_local(type_, step.after, network.mesh))
                shard = prod(_local(type_, before, network.mesh))
            scattered = _scattered(step, before, reshard, network.mesh) if op.scatters and several else None
            if wide and op.gathers:
                halved = of.halved[i] & _only_moves(steps[i + 1 :])
                if np.any(halved):
                    halved = halved & ~_in_lone_rows(step, before, type_, network, of.sliced)
            each = Printed(step.kind, step.mask, step.bytes, vector, shard, halved, scattered)
            goes_on = of.goes_on[i] if of.goes_on else True
            more, still = chain.add(each, goes_on)
            seconds, waited = seconds + more * of.fresh[i], waited + still * of.fresh[i]
        before = step.after
    return SentSteps(seconds, waited, moved)


@dataclass
class _Chain:
    """Collectives one after the other, of which two over several slices may be sent as one.

    Attributes:
        left: how many of each kind are still to come.
        last: of each kind the last one, what it takes and how much of that is waited for; its mask is 0 for candidates
            where something else came after.
    """

    network: Network
    awaited: bool
    beside: bool
    left: Counter[str]
    last: dict[str, tuple[Printed, Any, Any]] = field(default_factory=dict[str, tuple[Printed, Any, Any]])

    def add(self, each: Printed, goes_on: Any) -> tuple[Any, Any]:
        """What one more collective adds, which may be one with the last where all goes on with it, and what of that is
        waited for."""
        sends, (seconds, waited) = self.network.sends, self.network.sent_seconds(each, self.awaited, self.beside)
        if sends is None or not sends.slow:
            return seconds, waited
        kind, op = each.kind, OPS[each.kind]
        before = self.last.pop(kind, None)
        self.cut(each.mask)
        self.left[kind] -= 1
        if not (op.gathers or op.scatters):
            return seconds, waited
        if before is None:
            if self.left[kind]:
                self.last[kind] = each, seconds, waited
            return seconds, waited
        last, taken, still = before
        there = np.asarray(each.mask) != 0
        one = there & goes_on & sends.one(each.kind, last.mask, each.mask)
        over = np.asarray(last.mask) | each.mask
        both = replace(each, mask=over, bytes=np.maximum(last.bytes, each.bytes), shard=last.shard)
        together, held = seconds, waited
        if np.any(one):
            together, held = self.network.sent_seconds(both, self.awaited, self.beside)

        def chosen(joint: Any, own: Any, earlier: Any) -> Any:
            return where(one, joint, where(there, own, earlier))

        if self.left[kind]:
            kept = {name: chosen(*[getattr(it, name) for it in (both, each, last)]) for name in _OF_CANDIDATES}
            self.last[kind] = replace(each, **kept), chosen(together, seconds, taken), chosen(held, waited, still)
        return where(one, together - taken, seconds), where(one, held - still, waited)

    def cut(self, mask: Mask) -> None:
        """Something else comes next, for the candidates whose mask is not 0."""
        for kind, (last, *taken) in self.last.items():
            self.last[kind] = replace(last, mask=where(np.asarray(mask) != 0, 0, last.mask)), *taken


def _scattered(step: Step, before: Layout, reshard: Reshard, mesh: DeviceMesh) -> Scattered:
    """What a step cuts."""
    type_ = reshard.value.type
    long = [i for i, dim in enumerate(type_.dims) if dim.size > 1]
    at = [type_.dims[i].name for i in long].index(step.name)
    sizes, after = _local(type_, before, mesh), _local(type_, step.after, mesh)
    names = list(dict.fromkeys(type_.names))
    number: Any = step.after.get(step.name or "", 0)
    for name in names:
        number = number * mesh.masks + before.get(name, 0)
    among = Among(number, mesh.masks ** (len(names) + 1), (type_, step.name, reshard.summed))
    return Scattered(
        tuple([sizes[i] for i in long]), at, after[long[at]], item_size(type_.dtype), among, reshard.summed
    )


def _in_lone_rows(step: Step, before: Layout, type_: TensorType, network: Network, sliced: bool) -> Any:
    """Whether what a step gathers lies in tiles of one row."""
    at = [dim.name for dim in type_.dims].index(step.name)
    if network.sends is None or (at + 2 >= len(type_.dims) and not sliced):
        return np.asarray(False)
    sizes = _local(type_, step.after, network.mesh)
    found = network.sends.in_lone_rows(sizes, at)
    return found | network.sends.in_lone_slices(sizes, at, _local(type_, before, network.mesh)[at]) if sliced else found


def _only_moves(steps: Sequence[Step]) -> Any:
    """Whether none of the steps completes a sum."""
    found: Any = np.asarray(True)
    for step in steps:
        if OPS[step.kind].completes_sums:
            found = found & (np.asarray(step.mask) == 0)
    return found


def _local(type_: TensorType, layout: Layout, mesh: DeviceMesh) -> list[Any]:
    """The sizes of the dims on one device; of a name that occurs twice the first dim is sharded."""
    sizes: list[Any] = []
    seen: set[str] = set()
    for dim in type_.dims:
        first = dim.name is not None and dim.name not in seen
        sizes.append(dim.size // mesh.group(layout.get(dim.name, 0)) if first and dim.name is not None else dim.size)
        seen.update([dim.name] if dim.name is not None else [])
    return sizes
