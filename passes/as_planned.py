"""The step that a plan is of: keys going round where it says so, with the axes padded that it pads, and computing again
what it computes again."""

from ir.graph import Graph
from passes.pad_axes import check_padding, padded
from passes.planner.layouts import Layouts
from passes.rematerialize import check_remat, rematerialized
from passes.ring_attention import check_attention, in_rings


def as_planned(graph: Graph, plan: Layouts) -> Graph:
    """A canonical graph under the choices of a plan that change it: itself where there are none, or where they are
    made already."""
    return rematerialized(padded(in_rings(graph, plan.attention), plan.padding), plan.remat)


def check_choices(graph: Graph, plan: Layouts) -> None:
    """Raises `PlanError` where a canonical graph cannot follow these choices."""
    check_attention(graph, plan.attention)
    check_padding(graph, plan.padding)
    if plan.remat:
        check_remat(graph, plan.remat)


def own_sizes(graph: Graph, plan: Layouts) -> dict[str, int]:
    """The sizes of the axes of a step as it is planned, without padding."""
    sizes = graph.axis_sizes()
    for name, size in plan.padding.items():
        dims = (dim for value in graph.values() for dim in value.type.dims if dim.name == name)
        shorter = [dim.size for dim in dims if dim.size < size]
        sizes |= {name: max(shorter)} if shorter else {}
    return sizes
