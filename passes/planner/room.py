"""What a chip has left beside a plan: for passes that trade memory for communication."""

from passes.planner.allocations import memory_program
from passes.planner.regather import regathers
from passes.sharding.pending import pending_bytes
from passes.sharding.roles import assign_roles
from passes.stage import Stage


def room(stage: Stage) -> int | None:
    """Bytes on each device beside the peak of the plan and the sums that loops keep pending so far; below 0 where the
    plan needs more than there is. None where no plan, or no chip, is known."""
    plan, graph = stage.plan, stage.unplaced
    if plan is None or graph is None or not (plan.hardware or plan.custom_chip):
        return None
    roles = assign_roles(graph, stage.at_rest, plan.stored)
    program = memory_program(graph, roles, regathers(graph, plan, roles), plan.chip.memory, plan.mesh)
    peak, _ = program.peak(plan.rules, plan.chip.memory)
    return plan.chip.capacity - int(peak) - pending_bytes(stage.graph, plan.mesh.as_dict())
