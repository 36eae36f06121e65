"""A plan: which name goes on which mesh axes, in two roles, in which order, and what it is predicted to cost."""

from collections.abc import Mapping
from dataclasses import dataclass

from ir.graph import Graph
from passes import errors
from passes.canonicalize import canonicalize
from passes.mesh import DeviceMesh
from passes.planner.layouts import Layouts, RunnerUp, Search
from passes.planner.subject import subject_of
from passes.report.facts import facts, question
from passes.report.report import Report

__all__ = ["Plan", "RunnerUp", "Search"]


@dataclass(frozen=True)
class Plan(Layouts):
    """Layouts by name on a mesh. `print(plan)` says what `levanter compile` prints: the layouts, why, and their price.

    The fields are those of `Layouts`. A plan is data: it can be compared, pickled and sent elsewhere.
    """

    @classmethod
    def by_hand(
        cls,
        mesh: Mapping[str, int] | DeviceMesh,
        compute: Mapping[str, tuple[str, ...] | list[str]],
        storage: Mapping[str, tuple[str, ...] | list[str]] | None = None,
        hardware: str = "v5e",
    ) -> "Plan":
        """A plan of your own; names are served in the order in which `compute`, then `storage`, lists them.

        Raises `PlanError` for an axis that the mesh does not have.
        """
        layout = DeviceMesh.of(mesh)
        storage = storage or {}
        for axes in (*compute.values(), *storage.values()):
            layout.mask(list(axes))
        merged = {name: tuple(dict.fromkeys((*compute.get(name, ()), *axes))) for name, axes in storage.items()}
        return cls(
            layout,
            tuple(dict.fromkeys((*compute, *storage))),
            {name: tuple(axes) for name, axes in compute.items()},
            {**{name: tuple(axes) for name, axes in compute.items()}, **merged},
            hardware,
        )

    def report(self, graph: Graph | None = None) -> Report:
        """What `levanter compile` says of the plan: the keys of docs/compile.md, printed as its tables.

        Args:
            graph: the traced step. Left out: the step that was planned.

        Raises:
            PlanError: the plan was made by hand, so that a graph is needed.
        """
        subject = subject_of(canonicalize(graph)) if graph is not None else self.subject
        if subject is None:
            raise errors.no_subject()
        return Report({"model": subject.graph.name, **facts(subject, self)})

    def __str__(self) -> str:
        """The report as tables; the layouts alone where the plan knows no step."""
        known = self.report() if self.subject is not None else Report({"model": "plan by hand", **question(self)})
        return str(known)
