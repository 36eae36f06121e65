"""Whether a graph can follow the rules of a plan made by hand: a name it does not have, a size that does not divide."""

import warnings

from ir.graph import Graph
from passes import errors
from passes.planner.layouts import Layouts


def warn_of_unfollowed(graph: Graph, plan: Layouts) -> None:
    """A `PlanWarning` for each rule of `plan` that the graph cannot follow. A plan that was searched for has none."""
    if plan.search is not None or plan.mesh.devices == 1:
        return
    for text in unfollowed(graph, plan):
        warnings.warn(text, errors.PlanWarning, stacklevel=2)


def unfollowed(graph: Graph, plan: Layouts) -> list[str]:
    """What `warn_of_unfollowed` says."""
    sizes, mesh, rules = graph.axis_sizes(), plan.mesh, plan.rules
    found: list[str] = []
    for name in plan.order:
        if name not in sizes:
            found.append(errors.rule_without_axis(name, tuple(sizes), graph.name))
            continue
        fitting = mesh.fitting(sizes[name])
        used = int(rules.compute.get(name, 0))
        kept = used | int(rules.extra.get(name, 0))
        for role, mask in (("compute", used), ("storage", kept)):
            if int(fitting[mask]) != mask and not (role == "storage" and kept == used):
                where = " × ".join(f"{axis}={mesh.as_dict()[axis]}" for axis in mesh.names(mask))
                instead = mesh.names(int(fitting[mask]))
                found.append(
                    errors.rule_does_not_divide(role, name, sizes[name], where, int(mesh.group(mask)), instead)
                )
    return found
