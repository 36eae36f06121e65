"""What goes between slices goes through the memory of the device, whatever else stays on the chip.

The network between slices is reached through the host, which reads and writes HBM: what a device sends is written
there, and what it has of other slices is read from there. Gradients wait for it until the update: the network is slow,
so what is sent of one is still there when the next one is made. A sum is made inside of a slice first, so each device
sends its share of what the slice has; a gather begins between slices, so what arrives is the shards of all of them.
What is sent has a record, what arrives has one, and so has its end (`ChipMemory.record`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ir.graph import Node
from ir.ops import op_of
from passes.hardware.memory import PLAIN_MEMORY, ChipMemory
from passes.hardware.network import SLOW_AXIS
from passes.planner.memory import Entry
from passes.sharding.mesh import DeviceMesh
from passes.sharding.rules import ShardingRules

Part = Literal["sent", "arrived", "records"]
_RECORDS = 3


@dataclass(frozen=True, slots=True)
class Crossing(Entry):
    """A part of what crosses slices for a value: of its sum over names (`summed`), which a node makes in the first of
    the places; or, with none, of its gathered copies."""

    summed: tuple[str, ...] = ()
    part: Part = "arrived"

    def local(self, rules: ShardingRules, chip: ChipMemory = PLAIN_MEMORY) -> Any:
        """Bytes on one device."""
        slow = rules.mesh.mask([SLOW_AXIS])
        stored = self.masks(self.stored_in(rules))
        total: Any = 0
        for place in self.copies:
            layout = rules.layout(dict(place.sizes), place.role, place.blocked)
            there = self.masks_in(rules, place, layout)
            pending: Any = 0
            for name in self.summed:
                pending = pending | layout.get(name, 0)
            gained: Any = 0
            for mine, other in zip(stored, there, strict=True):
                gained = gained | mine & ~other
            crosses = ((pending if self.summed else gained) & slow) != 0
            if self.part == "records":
                total = total + _RECORDS * chip.record * crosses
            elif self.summed:
                share = self.bytes_of(rules, chip, there) // rules.mesh.group(pending & ~slow)
                if self.part == "arrived":
                    share = share // rules.mesh.group(pending & gained & slow)
                total = total + share * crosses
            else:
                total = total + self.bytes_of(rules, chip, [mask & ~slow for mask in stored]) * crosses
        return total

    @property
    def depends_on(self) -> tuple[Any, ...]:
        return (tuple(dict(reversed(self.dims)).items()), self.role, self.copies, self.summed, self.part)


def over_slices(mesh: DeviceMesh | None, chip: ChipMemory) -> bool:
    """Whether a mesh has several TPU slices."""
    return mesh is not None and SLOW_AXIS in mesh.axes and chip.record > 0


def added_first(nodes: Sequence[Node]) -> set[int]:
    """The nodes, by identity, whose results are added to what a later one makes before either is reduced: the gradients
    of a parameter that is used twice."""
    readers: dict[int, list[Node]] = {}
    for node in nodes:
        for value in node.value_inputs:
            readers.setdefault(value.id, []).append(node)
    last: dict[int, Node] = {}
    found: set[int] = set()
    for node in nodes:
        if op_of(node).fusible or len(node.outputs) != 1:
            continue
        reader = node
        while reader is not None and (reader is node or len(reader.value_inputs) == 1):
            read = readers.get(reader.outputs[0].id, ())
            reader = read[0] if len(read) == 1 and op_of(read[0]).fusible and read[0].phase == node.phase else None
        if reader is not None:
            if id(reader) in last:
                found.add(id(last[id(reader)]))
            last[id(reader)] = node
    return found
