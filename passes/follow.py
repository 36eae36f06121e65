"""Whether a graph can follow the rules of a plan made by hand: a name it does not have, a size that does not divide.

Of a plan that was written in code that is a warning. A plan that was read from a file is refused: whoever edits the
file is there to correct it.
"""

import warnings

from ir.graph import Graph
from passes import errors
from passes.planner import errors as document_errors
from passes.planner.layouts import Layouts
from passes.planner.space import scanned_names


def warn_of_unfollowed(graph: Graph, plan: Layouts) -> None:
    """A `PlanWarning` for each rule of `plan` that the graph cannot follow. A plan that was searched for has none, and
    one that was read from a file was held against the step that it is for."""
    if plan.search is not None or plan.document is not None or plan.mesh.devices == 1:
        return
    for text in unfollowed(graph, plan):
        warnings.warn(text, errors.PlanWarning, stacklevel=2)


def unfollowed(graph: Graph, plan: Layouts) -> list[str]:
    """What `warn_of_unfollowed` says."""
    sizes, mesh, rules = graph.axis_sizes(), plan.mesh, plan.rules
    ordered = dict.fromkeys(name for where, names in plan.order_where.items() for name in (where, *names))
    found = [errors.rule_without_axis(name, tuple(sizes), graph.name) for name in ordered if name not in sizes]
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


def refuse_unfollowed(graph: Graph, plan: Layouts) -> None:
    """Raises `PlanError` for the first rule of a plan that was read from a file which the graph cannot follow."""
    if plan.document is None:
        return
    sizes, mesh, source = graph.axis_sizes(), plan.mesh, plan.document.source
    for where, names in plan.order_where.items():
        for name in (where, *names):
            if name not in sizes:
                raise document_errors.document_name(source, "order", name, tuple(sizes), plan.document.model)
    scanned = scanned_names(graph)
    for role, rules in (("compute", plan.compute), ("storage", plan.storage)):
        for name, axes in rules.items():
            if name not in sizes:
                raise document_errors.document_name(source, role, name, tuple(sizes), plan.document.model)
            if name in scanned:
                raise document_errors.document_scanned(source, role, name)
            mask = mesh.mask(axes)
            if int(mesh.fitting(sizes[name])[mask]) != mask:
                where = ",".join(f"{axis}={mesh.as_dict()[axis]}" for axis in mesh.names(mask))
                raise document_errors.document_size(source, role, name, sizes[name], where, int(mesh.group(mask)))
