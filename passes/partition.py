"""Makes the communication explicit: every value gets its place on the mesh, every collective becomes a node.

The placed graph says all that happens on the mesh: which name moves over which mesh axis, how many bytes, for which
source line. Lowering pins exactly this.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ir.graph import Attr, Graph, Node, Operand, Value
from ir.kinds import entered, kind_of
from passes import errors
from passes.layout import Layout, with_layout
from passes.mesh import DeviceMesh, Mask
from passes.placement import Move, body_result_moves, operand_moves, result_moves, space_of, sums_due, value_layout
from passes.planner.layouts import Layouts
from passes.retype import laid_out, without_layout
from passes.roles import Roles, assign_roles
from passes.stage import Need, Pass, Stage
from passes.transition import transition


@dataclass(frozen=True)
class Partition(Pass):
    """Pass: places a graph according to the plan; inputs at rest lie where state lies."""

    needs: ClassVar[Need | None] = "plan"

    def apply(self, stage: Stage) -> Stage:
        """The stage with the placed graph, collectives as nodes.

        Raises:
            PlanError: there is no plan, the graph is partitioned already, or it was laid out by another plan.
        """
        refuse_partitioned(stage.graph)
        if stage.plan is None:
            raise errors.no_plan(self.stem())
        graph = without_layout(stage.graph)
        roles = assign_roles(graph, stage.at_rest)
        if graph != stage.graph:
            _refuse_another_plan(stage.graph, laid_out(graph, stage.plan, roles))
        placed = _Partitioner(stage.plan, roles, _next_id(graph)).graph(graph, outermost=True)
        return replace(stage, graph=placed)


def partition(graph: Graph, plan: Layouts) -> Graph:
    """The graph placed according to `plan`, with collectives as nodes."""
    return Partition().apply(Stage(graph, plan.mesh, plan.hardware, plan)).graph


def refuse_partitioned(graph: Graph) -> None:
    """Raises `PlanError` for a graph that has collectives already."""
    for node in graph.walk():
        if kind_of(node).communicates:
            raise errors.partitioned_already(graph.name, node.kind, str(node.outputs[0]))


def _refuse_another_plan(found: Graph, wanted: Graph) -> None:
    for value, planned in zip(found.values(), wanted.values(), strict=True):
        if value.type != planned.type:
            raise errors.another_plan(str(value), value.type, planned.type)


def _next_id(graph: Graph) -> int:
    return 1 + max((value.id for value in graph.values()), default=-1)


class _Partitioner:
    def __init__(self, plan: Layouts, roles: Roles, next_id: int) -> None:
        self.mesh: DeviceMesh = plan.mesh
        self.wish = plan.wish
        self.roles = roles
        self.next_id = next_id

    def fresh(self, value: Value) -> Value:
        self.next_id += 1
        return Value(self.next_id - 1, value.type)

    def placed(self, value: Value) -> Value:
        """The value in the place that its role gives it."""
        return replace(value, type=with_layout(value.type, value_layout(value, self.roles, self.wish), self.wish))

    def graph(self, graph: Graph, outermost: bool = False, results: list[Move | None] | None = None) -> Graph:
        scope = _Scope(self)
        inputs = tuple(scope.define(value, self.placed(value)) for value in graph.inputs)
        for node in graph.nodes:
            scope.node(node)
        outputs = [scope.read(operand) for operand in graph.outputs]
        last = graph.nodes[-1] if graph.nodes else None
        for i, move in enumerate(results or []):
            operand = graph.outputs[i]
            if move is not None and isinstance(operand, Value):
                outputs[i] = scope.moved(move, scope.maker.get(operand.id, last))
        if outermost:
            outputs = self.settled(graph, inputs, outputs, scope)
        return replace(graph, inputs=inputs, nodes=tuple(scope.nodes), outputs=tuple(outputs))

    def settled(
        self, graph: Graph, inputs: tuple[Value, ...], outputs: list[Operand], scope: "_Scope"
    ) -> list[Operand]:
        """Carried state leaves the step exactly where it came in."""
        for before, after in graph.carried:
            operand = graph.outputs[after]
            if isinstance(operand, Value) and operand.type.dims:
                source = value_layout(operand, self.roles, self.wish)
                target = value_layout(graph.inputs[before], self.roles, self.wish)
                target = {name: target.get(name, 0) for name in source}
                move = Move(operand, self.roles[operand.id], "storage", source, (), target)
                outputs[after] = scope.moved(move, scope.maker.get(operand.id))
        return outputs


class _Scope:
    """One body being placed: the values so far, and copies of them in other places, made once each."""

    def __init__(self, owner: _Partitioner) -> None:
        self.owner = owner
        self.nodes: list[Node] = []
        self.values: dict[int, Value] = {}
        self.copies: dict[tuple[int, tuple[tuple[str, int], ...]], Value] = {}
        self.maker: dict[int, Node] = {}

    def define(self, old: Value, new: Value) -> Value:
        self.values[old.id] = new
        return new

    def read(self, operand: Operand) -> Operand:
        return self.values[operand.id] if isinstance(operand, Value) else operand

    def moved(self, move: Move, cause: Node | None) -> Value:
        """The operand in the place asked for; a copy made before serves again."""
        wanted = tuple(sorted((name, int(mask)) for name, mask in move.target.items()))
        if wanted == tuple(sorted((name, int(mask)) for name, mask in move.source.items())):
            return self.values[move.value.id]
        key = (move.value.id, wanted)
        if key not in self.copies:
            self.copies[key] = self.emit(move, self.values[move.value.id], cause, ())
        return self.copies[key]

    def emit(
        self, move: Move, value: Value, cause: Node | None, over: tuple[str, ...], last: Value | None = None
    ) -> Value:
        """Appends the steps of a move; the result of the last one may be given (a node's own result)."""
        mesh = self.owner.mesh
        steps = list(
            transition(
                move.value.type, move.source, move.due, move.target, mesh, move.cut_between, self.owner.wish.compute
            )
        )
        for i, step in enumerate(steps):
            result = self.owner.fresh(move.value) if last is None or i + 1 < len(steps) else last
            placed = with_layout(move.value.type, step.after, self.owner.wish, int(step.partial))
            result = replace(result, type=placed)
            summed = step.kind in ("all_reduce", "reduce_scatter")
            axis = _summed_names(move, over, int(step.mask)) if summed else (step.name or "",)
            attrs: dict[str, Attr] = {"axis": axis, "mesh": mesh.names(int(step.mask)), "bytes": int(step.bytes)}
            attrs["moving"] = _moving(move)
            phase, source = (cause.phase, cause.source) if cause is not None else ("forward", None)
            self.nodes.append(Node(step.kind, "", (value,), (result,), attrs, (), phase, source))
            value = result
        return value

    def node(self, node: Node) -> None:
        owner = self.owner
        moves = {move.value.id: move for move in operand_moves(node, owner.roles, owner.wish)}
        inputs: list[Operand] = []
        for operand in node.inputs:
            move = moves.get(operand.id) if isinstance(operand, Value) else None
            inputs.append(self.moved(move, node) if move is not None else self.read(operand))
        if entered(node):
            leaving = dict(body_result_moves(node, owner.roles, owner.wish))
            bodies = tuple(owner.graph(body, results=leaving.get(i)) for i, body in enumerate(node.bodies))
            outputs = tuple(self.define(value, owner.placed(value)) for value in node.outputs)
            self.append(replace(node, inputs=tuple(inputs), bodies=bodies, outputs=outputs))
            return
        results = result_moves(node, owner.roles, owner.wish)
        space = space_of(node, owner.roles)
        layout = owner.wish.layout(space.sizes, space.role, space.blocked)
        made: list[Value] = []
        for move in results:
            settled = owner.placed(move.value)
            partial = _union(move.due)
            direct = _same(move.source, move.target) and not partial
            first = settled if direct else owner.fresh(move.value)
            made.append(replace(first, type=with_layout(move.value.type, move.source, owner.wish, partial)))
        self.append(replace(node, inputs=tuple(inputs), outputs=tuple(made)))
        due = zip(space.reduced, sums_due(space, layout), strict=True)
        over = tuple(name for name, mask in due if int(mask))
        for move, value in zip(results, made, strict=True):
            settled = owner.placed(move.value)
            if value.id != settled.id:
                self.emit(move, value, node, over, last=settled)
            self.define(move.value, settled)

    def append(self, node: Node) -> None:
        self.nodes.append(node)
        for value in node.outputs:
            self.maker[value.id] = node


def _union(masks: Sequence[Mask]) -> int:
    result = 0
    for mask in masks:
        result |= int(mask)
    return result


def _summed_names(move: Move, over: tuple[str, ...], mask: int) -> tuple[str, ...]:
    """The names whose shards are summed over `mask`."""
    due = [int(each) for each in move.due if int(each)]
    return tuple(name for name, each in zip(over, due, strict=True) if each == mask)


def _moving(move: Move) -> str:
    """What is on its way: a parameter, a gradient, or an activation. Overlap is reckoned by it."""
    if move.role == "storage" and move.target_role == "compute":
        return "parameter"
    if move.target_role == "storage":
        return "gradient"
    return "activation"


def _same(first: Layout, second: Layout) -> bool:
    return all(int(first.get(name, 0)) == int(second.get(name, 0)) for name in {**first, **second})
