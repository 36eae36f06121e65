"""What a pass is, and what goes from one pass to the next.

A pass is one file, one verb, one frozen dataclass whose fields are its options. Most take a graph and give a graph
(`GraphPass`); one that needs the mesh or the plan besides takes and gives the whole `Stage`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from ir.graph import Graph
from passes.hardware.chip import Chip
from passes.planner.layouts import Layouts
from passes.proof.proof import Proof
from passes.sharding.mesh import DeviceMesh

Need = Literal["mesh", "plan"]


@dataclass(frozen=True)
class Stage:
    """Where the pipeline stands.

    Attributes:
        graph: the step so far.
        mesh, hardware: what the step is planned for.
        plan: the layout of every name; None until it is chosen, or given.
        at_rest: positions of inputs that are stored as state is, though the step gives none back (the model of an
            evaluation).
        unplaced: the graph as it was before it was placed on the mesh; None until it is.
        proof: what `passes.prove` has shown of the graph; None until it has.
    """

    graph: Graph
    mesh: DeviceMesh | None = None
    hardware: str | Chip = "v5e"
    plan: Layouts | None = None
    at_rest: tuple[int, ...] = ()
    unplaced: Graph | None = None
    proof: Proof | None = None


class Pass(ABC):
    """One entry of the list of passes."""

    needs: ClassVar[Need | None] = None
    """What a stage must have for the pass, besides the graph."""

    @classmethod
    def stem(cls) -> str:
        """The name of the pass: that of its file, which its golden files have too."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def apply(self, stage: Stage) -> Stage:
        """The stage after the pass."""


class GraphPass(Pass):
    """A pass that needs nothing but the graph."""

    @abstractmethod
    def __call__(self, graph: Graph) -> Graph:
        """The graph after the pass."""

    def apply(self, stage: Stage) -> Stage:
        return replace(stage, graph=self(stage.graph))
