"""What values cost that go round between devices while an operation computes (`Op.rounds`): keys of a ring attention.

Passing on needs nothing that is being computed, so it is trusted to be hidden behind the turns of the operation as much
as other communication that is started early (`Overlap.state`): never more of it than these turns take. What comes back
at the end is waited for.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ir.graph import Node, Value
from ir.ops import op_of
from ir.types import item_size
from passes.hardware.network import Network
from passes.sharding.iteration_space import restricted, space_of
from passes.sharding.roles import Roles
from passes.sharding.rules import Layout, ShardingRules

KIND = "ring_permute"
"""How such values are sent."""


@dataclass(frozen=True)
class Rounds:
    """Seconds that an operation sends values round: those that the device waits, and those hidden behind its turns."""

    exposed: Any
    covered: Any


def goes_round(node: Node) -> bool:
    """Whether values of an operation may go round."""
    return bool(node.dims("ring"))


def key(node: Node) -> Hashable:
    """What their price depends on, besides the iteration space."""
    if not goes_round(node):
        return None
    return node.names("ring"), tuple([tuple([value.type for value in each]) for each in op_of(node).travels(node)])


def operations(node: Node, devices: Any, each: Any) -> Any:
    """How many operations a device does where values go round so many: those of each turn, and one for each array that
    it passes on, keys in all turns but the last, their gradients in all. (Of gpt2_nano on v5e:2x4 libtpu makes 260 more
    than of gathered keys, for 24 more turns, half of them backward, and 80 arrays.)"""
    keys, *gradients = [len(each) for each in op_of(node).travels(node)]
    return devices * each + (devices - 1) * keys + sum(gradients) * devices * (devices > 1)


def rounds(node: Node, computed: Any, roles: Roles, rules: ShardingRules, network: Network) -> Rounds:
    """The price under rules, or arrays of candidates.

    Args:
        computed: seconds that the operation itself takes.
    """
    space = space_of(node, roles)
    layout = rules.layout(space.sizes, space.role, space.blocked)
    (name,) = node.names("ring")
    mask = layout[name]
    devices = rules.mesh.group(mask)
    keys, *gradients = [
        sum(network.seconds(KIND, mask, _bytes(value, layout, rules)) for value in each)
        for each in op_of(node).travels(node)
    ]
    sent, last = (devices - 1) * keys, 0.0
    if gradients:
        sent, last = sent + (devices - 1) * gradients[0], gradients[0] * (devices > 1)
    covered = np.minimum(network.chip.overlap.state * sent, computed * (devices - 1) / devices)
    return Rounds(sent + last - covered, covered)


def _bytes(value: Value, layout: Layout, rules: ShardingRules) -> Any:
    """Bytes of one device's shard."""
    size: Any = value.type.elements * item_size(value.type.dtype)
    for mask in restricted(layout, value.type, rules).values():
        size = size // rules.mesh.group(mask)
    return size
