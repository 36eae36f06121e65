"""The passes from a plan to the program of one device, without the proof: for reports and for the planner."""

from ir.graph import Graph
from passes.defer_sums import DeferSums
from passes.hoist_gathers import HoistGathers
from passes.join_sums import JoinSums
from passes.partition import Partition
from passes.planner.layouts import Layouts
from passes.scatter_sums import ScatterSums
from passes.stage import Pass, Stage

PLACING: tuple[type[Pass], ...] = (Partition, ScatterSums, JoinSums, DeferSums, HoistGathers)


def placed(graph: Graph, plan: Layouts) -> Graph:
    """A canonical graph as the program of one device under a plan."""
    stage = Stage(graph, plan.mesh, plan.hardware, plan)
    for each in PLACING:
        stage = each().apply(stage)
    return stage.graph
