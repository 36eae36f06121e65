"""A step as rules of other systems are held against it, and the plan that such rules come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ir.graph import Graph, Value
from ir.names import is_made, is_part
from passes.foreign.findings import Held
from passes.foreign.reading import Module, Subject, read_rules
from passes.foreign.rules import Array, Layout
from passes.hardware.chip import Chip
from passes.planner.layouts import Layouts
from passes.planner.plan import Plan
from passes.planner.space import scanned_names
from passes.planner.undivided import batch_axes
from passes.report.facts import parameters
from passes.sharding.mesh import DeviceMesh
from passes.sharding.roles import assign_roles
from passes.sharding.rules import sizes_of


def step_of(
    graph: Graph, mesh: DeviceMesh, modules: Sequence[Module] = (), own_names: Mapping[str, str] | None = None
) -> Subject:
    """A canonical graph as rules are read for it; see `Subject` for the arguments."""
    return Subject(graph.axis_sizes(), mesh.as_dict(), _parameters(graph), modules, own_names)


def held(
    text: str, source: str, graph: Graph, subject: Subject, best: Mapping[str, Sequence[str]] | None = None
) -> Held:
    """The rules of a text held against a step.

    Args:
        source: the file, as messages call it.
        graph: the canonical graph that `subject` is of.
        best: mesh axes by name, at rest, that the planner would choose.

    Raises:
        PlanError: the text has no rules that are known, or cannot be parsed.
    """
    rules = read_rules(text, source, subject)
    return Held(rules, subject.mesh, subject.parameters, _activations(graph), next(iter(batch_axes(graph)), None), best)


def _parameters(graph: Graph) -> list[Array]:
    scanned = scanned_names(graph)
    found: list[Array] = []
    for path, value in parameters(graph):
        sizes = _named(value)
        found.append(Array(sizes, path, scanned & sizes.keys(), value.type.bytes))
    return [each for each in found if each.sizes]


def _named(value: Value) -> dict[str, int]:
    return {name: size for name, size in sizes_of(value.type).items() if not is_made(name)}


def _activations(graph: Graph) -> list[Array]:
    """One of each shape that is computed with. What is cut out of an axis, or was made by the step itself, is laid out
    as what it comes from."""
    roles, scanned = assign_roles(graph), scanned_names(graph)
    found: dict[tuple[tuple[str, int], ...], None] = {}
    for value in graph.values():
        sizes = {name: size for name, size in _named(value).items() if not is_part(name)}
        if roles[value.id] == "compute" and sizes:
            found.setdefault(tuple(sizes.items()))
    return [Array(dict(sizes), None, scanned & {name for name, _ in sizes}) for sizes in found]


def plan_of(found: Held, mesh: DeviceMesh, hardware: str | Chip) -> Plan:
    """The plan that rules come to: of each name all mesh axes that it gets anywhere, in the order of the rules."""
    compute, storage = _granted(found.in_use, found), _granted(found.at_rest, found)
    ranked = [*([found.batch] if found.batch else []), *(name for rule in found.rules.rules for name in rule.names)]
    order = [name for name in dict.fromkeys(ranked) if name in compute or name in storage]
    used = {name: compute[name] for name in order if name in compute}
    kept = {name: storage[name] for name in order if name in storage}
    return replace(Plan.by_hand(mesh, used, kept, hardware), order=tuple(order))


def _granted(rows: Sequence[tuple[Array, Layout]], found: Held) -> dict[str, tuple[str, ...]]:
    granted: dict[str, set[str]] = {}
    for array, laid in rows:
        for name, axes in laid.axes.items():
            if axes and name not in array.scanned:
                granted.setdefault(name, set()).update(axes)
    return {name: tuple(axis for axis in found.mesh if axis in axes) for name, axes in granted.items()}


def laid_otherwise(found: Held, plan: Layouts) -> Iterator[str]:
    """The parameters that the plan which is priced stores otherwise than the rules say."""
    for array, laid in found.at_rest:
        masks = plan.rules.layout(array.sizes, "storage")
        if any(
            set(plan.mesh.names(int(masks.get(name, 0))))
            != set(laid.axes.get(name, ()) if name not in array.scanned else ())
            for name in array.sizes
        ):
            yield array.path or ""
