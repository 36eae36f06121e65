"""How long a parameter lives that was gathered for the forward pass: to its last use in the backward pass, or only to
the end of the forward pass, and it is gathered again.

Kept, it is gathered once a step. Gathered again (as ZeRO-3 does: Rajbhandari et al. 2020, "ZeRO: memory optimizations
toward training trillion parameter models", section 5.3), it costs a second all-gather and no memory in between. So it
is kept where the chip has room. Inside the loop over layers nothing is kept from one pass to the other in any case.
"""

from ir.graph import Graph
from passes.planner.allocations import memory_program
from passes.planner.layouts import Layouts
from passes.sharding.roles import Roles


def regathers(graph: Graph, plan: Layouts, roles: Roles) -> bool:
    """Whether parameters are gathered again under a plan: as it says, or where it leaves that to memory and names a
    chip, if kept ones do not fit."""
    if plan.regather is not None or not (plan.hardware or plan.custom_chip):
        return bool(plan.regather)
    if "parameters" not in plan.stored or not any(plan.rules.extra.values()):
        return False
    peak, _ = memory_program(graph, roles, chip=plan.chip.memory, mesh=plan.mesh).peak(plan.rules, plan.chip.memory)
    return int(peak) > plan.chip.capacity
