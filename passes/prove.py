"""Proves that a partitioned graph computes what the step computes.

For each mesh axis every value is replicated, sharded, or partial, as its type says. The proof is an induction over the
nodes: the operands are as their types say; so the results are, by the rule of the op (`Op.spread`); so all outputs are
too, and none is partial. And with moves and layouts forgotten, the graph is the one before partition: what the shards
of all devices make up is then what one device would compute. An op without a rule is an assumption, and is listed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ir.graph import Graph
from passes import require
from passes.proof.layouts import assumptions
from passes.proof.meaning import same_meaning
from passes.proof.proof import Proof
from passes.sharding.mesh import DeviceMesh, MeshLike
from passes.stage import Pass, Stage


@dataclass(frozen=True)
class Prove(Pass):
    """Pass: proves that the partitioned graph computes what the graph before partition does, or refutes it."""

    def apply(self, stage: Stage) -> Stage:
        """The same graph, with its proof. Raises `NotProved`."""
        mesh = stage.mesh.as_dict() if stage.mesh is not None else None
        return replace(stage, proof=_proof(stage.graph, stage.unplaced, mesh))


def prove(graph: Graph, against: Graph | None = None, mesh: MeshLike | None = None) -> Proof:
    """Proves a partitioned graph.

    Args:
        against: the graph before partition. Without it only layouts are proved: that the text means what it says, and
            not that it is the step.
        mesh: the mesh, so that sizes are looked at too: shards must be of one size.

    Raises:
        NotProved: it is refuted, or a node is not as its type says; the message names it, its line, the operand, the
            state that it is in, and the fix.
    """
    sizes = DeviceMesh.of(mesh).as_dict() if mesh is not None else None
    before = require.graph(against, "prove") if against is not None else None
    return _proof(require.graph(graph, "prove"), before, sizes)


def _proof(graph: Graph, before: Graph | None, mesh: Mapping[str, int] | None) -> Proof:
    found = tuple(assumptions(graph, mesh))
    if before is not None:
        same_meaning(graph, before)
    return Proof(sum(1 for _ in graph.values()), found, before is not None)
