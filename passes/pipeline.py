"""THE list of passes, in order, and what runs them.

After each pass the graph is verified; with a folder to dump to, it is written there, numbered, before and after:
`00-traced.ir`, `01-check_axes.ir`, …
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ir.analysis.verify import verify
from ir.graph import Graph
from passes import require
from passes.canonicalize import Canonicalize
from passes.check_axes import CheckAxes
from passes.hardware.chip import Chip
from passes.partition import Partition
from passes.planner.plan import Plan
from passes.planner.solve import plan as solve
from passes.scatter_sums import ScatterSums
from passes.sharding.mesh import MeshLike

Pass = Callable[[Graph], Graph]


@dataclass(frozen=True)
class Result:
    """What the pipeline makes: the graph as it was planned, the plan, the graph placed on the mesh."""

    graph: Graph
    plan: Plan
    placed: Graph


def run(
    graph: Graph,
    mesh: MeshLike,
    hardware: str | Chip = "v5e",
    *,
    plan: Plan | None = None,
    dump: Path | str | None = None,
) -> Result:
    """All passes on a traced graph. A given `plan` is used as it is. Raises `AxisErrors` and `PlanError`."""
    dump = require.folder(dump, "run")
    dump_graph(dump, 0, "traced", verify(require.graph(graph, "run")))
    graph = _applied(graph, front(), dump)
    chosen = require.plan(plan, "run") if plan is not None else solve(graph, mesh, hardware)
    placed = _applied(graph, back(chosen), dump, first=1 + len(front()))
    return Result(graph, chosen, placed)


def _applied(graph: Graph, steps: list[tuple[str, Pass]], dump: Path | None = None, first: int = 1) -> Graph:
    """The graph after some passes, verified and dumped after each; `first` is the number of the first dump."""
    for number, (name, step) in enumerate(steps, start=first):
        graph = verify(step(graph))
        dump_graph(dump, number, name, graph)
    return graph


def front() -> list[tuple[str, Pass]]:
    """Passes before the plan."""
    return [("check_axes", CheckAxes()), ("canonicalize", Canonicalize())]


def back(plan: Plan, at_rest: tuple[int, ...] = ()) -> list[tuple[str, Pass]]:
    """Passes that carry the plan out."""
    return [("partition", Partition(plan, at_rest)), ("scatter_sums", ScatterSums())]


def prepare(graph: Graph) -> Graph:
    """A traced graph, checked and canonical. Raises `AxisErrors`."""
    return _applied(graph, front())


def place(graph: Graph, plan: Plan, at_rest: tuple[int, ...] = ()) -> Graph:
    """A canonical graph placed according to a plan; inputs at the positions `at_rest` lie where state lies."""
    return _applied(graph, back(plan, at_rest))


def dump_graph(folder: Path | None, number: int, name: str, graph: Graph) -> None:
    """Writes `NN-name.ir` into the folder, where there is one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02d}-{name}.ir").write_text(str(graph))
