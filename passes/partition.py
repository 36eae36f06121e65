"""Makes the communication explicit: every value gets its place on the mesh, every collective becomes a node.

The placed graph says all that happens on the mesh: which name moves over which mesh axis, how many bytes, for which
source line. Lowering pins exactly this.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import ClassVar

from ir.graph import Graph, Node, Operand, Phase, Source, Value
from ir.ops import entered, op_of
from ir.rewrite import Rewriter, Scope
from ir.types import SUM, TensorType
from passes import errors, require
from passes.as_planned import as_planned
from passes.follow import warn_of_unfollowed
from passes.planner.allocations import stacked_results
from passes.planner.layouts import Layouts
from passes.planner.regather import regathers
from passes.retype import laid_out, without_layout
from passes.sharding.detours import without_detours
from passes.sharding.iteration_space import (
    Reshard,
    body_reshards,
    body_result_reshards,
    operand_reshards,
    pending_reductions,
    reduced_in,
    result_reshards,
    space_of,
    value_layout,
)
from passes.sharding.locality import in_order, made_on_shards
from passes.sharding.mesh import DeviceMesh, Mask
from passes.sharding.moves import moves, reordering
from passes.sharding.roles import Roles, assign_roles
from passes.sharding.rules import Layout, with_layout
from passes.stage import Need, Pass, Stage


@dataclass(frozen=True)
class Partition(Pass):
    """Pass: places a graph according to the plan; inputs at rest are stored as state is."""

    needs: ClassVar[Need | None] = "plan"

    def apply(self, stage: Stage) -> Stage:
        """The stage with the placed graph, collectives as nodes. Warns (`PlanWarning`) of rules that it cannot follow.

        Raises:
            PlanError: there is no plan, the graph is partitioned already, or it was laid out by another plan.
        """
        refuse_partitioned(stage.graph)
        if stage.plan is None:
            raise errors.no_plan(self.stem())
        graph = without_layout(stage.graph)
        roles = assign_roles(graph, stage.at_rest, stage.plan.stored)
        if graph != stage.graph:
            _refuse_another_plan(stage.graph, laid_out(graph, stage.plan, roles))
        warn_of_unfollowed(graph, stage.plan)
        if not stage.plan.compute and not stage.plan.storage:
            return replace(stage, graph=graph, unplaced=graph)  # replicated all of it: nothing has to move
        again = regathers(graph, stage.plan, roles)
        rewriter = Rewriter(graph)
        placed = _Partitioner(stage.plan, roles, rewriter, again).graph(graph, outermost=True)
        return replace(stage, graph=without_detours(placed, rewriter), unplaced=graph)


def partition(graph: Graph, plan: Layouts) -> Graph:
    """The graph placed according to `plan`, with collectives as nodes."""
    require.plan(plan, "partition")
    return partitioned(as_planned(require.graph(graph, "partition"), plan), plan)


def partitioned(graph: Graph, plan: Layouts) -> Graph:
    """The same of a graph that is already as it is planned."""
    return Partition().apply(Stage(graph, plan.mesh, plan.hardware, plan)).graph


def refuse_partitioned(graph: Graph) -> None:
    """Raises `PlanError` for a graph that has collectives already."""
    for node in graph.walk():
        if op_of(node).communicates:
            raise errors.partitioned_already(graph.name, node.kind, str(node.outputs[0]))


def _refuse_another_plan(found: Graph, wanted: Graph) -> None:
    for value, planned in zip(found.values(), wanted.values(), strict=True):
        if value.type != planned.type:
            raise errors.another_plan(str(value), value.type, planned.type)


class _Partitioner:
    def __init__(self, plan: Layouts, roles: Roles, rewriter: Rewriter, regather: bool) -> None:
        self.mesh: DeviceMesh = plan.mesh
        self.rules = plan.rules
        self.roles = roles
        self.regather = regather
        self.fresh = rewriter.fresh
        self.network = plan.physical

    def both_ways(self, axes: Sequence[str]) -> bool:
        """Whether what goes round some mesh axes goes half each way: along rings of a torus."""
        return bool(self.network.both_ways[self.mesh.mask(axes)])

    def placed(self, value: Value) -> Value:
        """The value in the place that its role gives it."""
        return replace(value, type=with_layout(value.type, value_layout(value, self.roles, self.rules), self.rules))

    def graph(self, graph: Graph, outermost: bool = False, results: list[Reshard | None] | None = None) -> Graph:
        scope = _Scope(self)
        inputs = tuple(scope.define(value, self.placed(value)) for value in graph.inputs)
        for node in graph.nodes:
            scope.node(node)
        outputs = list(scope.reads(graph.outputs))
        last = graph.nodes[-1] if graph.nodes else None
        for i, reshard in enumerate(results or []):
            operand = graph.outputs[i]
            if reshard is not None and isinstance(operand, Value):
                outputs[i] = scope.moved(reshard, scope.maker.get(operand.id, last))
        if outermost:
            outputs = self.settled(graph, inputs, outputs, scope)
        return scope.finish(graph, inputs=inputs, outputs=tuple(outputs))

    def settled(
        self, graph: Graph, inputs: tuple[Value, ...], outputs: list[Operand], scope: "_Scope"
    ) -> list[Operand]:
        """Carried state leaves the step exactly where it came in."""
        for before, after in graph.carried:
            operand = graph.outputs[after]
            if isinstance(operand, Value) and operand.type.dims:
                source = value_layout(operand, self.roles, self.rules)
                target = value_layout(graph.inputs[before], self.roles, self.rules)
                target = {name: target.get(name, 0) for name in source}
                reshard = Reshard(
                    operand, self.roles[operand.id], self.roles[graph.inputs[before].id], source, (), target
                )
                outputs[after] = scope.moved(reshard, scope.maker.get(operand.id))
        return outputs


class _Scope(Scope):
    """One body being placed: the values so far, and copies of them in other places, made once each."""

    def __init__(self, owner: _Partitioner) -> None:
        super().__init__()
        self.owner = owner
        self.copies: dict[tuple[int, tuple[tuple[str, int], ...], bool], Value] = {}
        self.sent: dict[tuple[int, str, TensorType], Value] = {}
        self.maker: dict[int, Node] = {}

    def moved(self, reshard: Reshard, cause: Node | None) -> Value:
        """The operand in the place asked for; a copy made before serves again."""
        wanted = tuple(sorted((name, int(mask)) for name, mask in reshard.target.items()))
        if wanted == tuple(sorted((name, int(mask)) for name, mask in reshard.source.items())):
            return self.values[reshard.value.id]
        backward = cause is not None and cause.phase == "backward"
        again = self.owner.regather and backward and reshard.role == "storage" and reshard.target_role == "compute"
        key = (reshard.value.id, wanted, again)
        if key not in self.copies:
            value = self.values[reshard.value.id]
            if again and (*key[:2], False) in self.copies and cause is not None:
                value = self.late(value, cause)
            self.copies[key] = self.emit(reshard, value, cause, ())
        return self.copies[key]

    def late(self, value: Value, cause: Node) -> Value:
        """Appends a delay of a value until the backward pass has come to where it is wanted: to what flows back, since
        what waits for the gradient of a parameter keeps that from being added up before it is reduced."""
        backward = (n for n in reversed(self.nodes) if n.phase == "backward" and n.outputs and self.flows(n.outputs[0]))
        nearest = next(backward, None)
        reached = next((n for n in chain([nearest], backward) if n is None or not op_of(n).fusible), nearest)
        if reached is None:
            return value
        result = self.owner.fresh(value)
        self.nodes.append(Node("delay", "", (value, reached.outputs[0]), (result,), {}, (), cause.phase, cause.source))
        return result

    def flows(self, value: Value) -> bool:
        """Whether a value is an activation, or the gradient of one, and is there in full."""
        return self.owner.roles.get(value.id, "compute") == "compute" and not value.type.partial

    def emit(
        self, reshard: Reshard, value: Value, cause: Node | None, over: tuple[str, ...], last: Value | None = None
    ) -> Value:
        """Appends the steps of a reshard; the result of the last one may be given (a node's own result)."""
        owner, phase, source = self.owner, *_where(cause)
        steps = moves(reshard, value.type, owner.rules, over)
        for step in steps:
            final = last is not None and step is steps[-1]
            known = self.sent.get((value.id, step.kind, step.type_))
            if known is not None and not final:
                value = known
                continue
            result = replace(last if final and last is not None else owner.fresh(reshard.value), type=step.type_)
            self.nodes.append(Node(step.kind, "", (value,), (result,), step.attrs, (), phase, source))
            self.sent[value.id, step.kind, step.type_] = result
            value = result
        return value

    def ordered(self, reshard: Reshard, value: Value, type_: TensorType, cause: Node, last: Value | None) -> Value:
        """Appends a permute to the order of mesh axes that a type has."""
        result = replace(last if last is not None else self.owner.fresh(reshard.value), type=type_)
        step = reordering(reshard, value.type, type_, self.owner.mesh)
        self.nodes.append(Node(step.kind, "", (value,), (result,), step.attrs, (), *_where(cause)))
        return result

    def node(self, node: Node) -> None:
        owner = self.owner
        if entered(node):
            reshards = body_reshards(node, owner.roles, owner.rules)
        else:
            known = {reshard.value.id: reshard for reshard in operand_reshards(node, owner.roles, owner.rules)}
            reshards = [known.get(operand.id) if isinstance(operand, Value) else None for operand in node.inputs]
        inputs: list[Operand] = []
        for operand, reshard in zip(node.inputs, reshards, strict=True):
            inputs.append(self.moved(reshard, node) if reshard is not None else self.read(operand))
        if entered(node):
            leaving = dict(body_result_reshards(node, owner.roles, owner.rules))
            bodies = tuple(owner.graph(body, results=leaving.get(i)) for i, body in enumerate(node.bodies))
            self.stacked(replace(node, inputs=tuple(inputs), bodies=bodies))
            return
        results = result_reshards(node, owner.roles, owner.rules)
        placed = replace(node, inputs=tuple(inputs), outputs=tuple(map(self.as_made, results)))
        placed = op_of(node).in_rounds(placed, owner.mesh.as_dict(), owner.fresh, owner.both_ways)
        found = made_on_shards(placed)
        if found is None:
            # Names alone do not tell that these shards fit one another: each device computes all of it.
            self.whole(node, results)
            return
        values = [replace(v, type=in_order(v.type, spread)) for v, spread in zip(placed.outputs, found, strict=True)]
        self.finished(replace(placed, outputs=tuple(values)), node, results)

    def as_made(self, reshard: Reshard) -> Value:
        """A result as a node makes it: its own value where it stays so, a fresh one where it is moved."""
        owner = self.owner
        partial = _union(reshard.pending)
        direct = _same(reshard.source, reshard.target) and not partial
        made = owner.placed(reshard.value) if direct else owner.fresh(reshard.value)
        return replace(made, type=self.made_type(reshard))

    def made_type(self, reshard: Reshard) -> TensorType:
        partial = _union(reshard.pending)
        type_ = with_layout(reshard.value.type, reshard.source, self.owner.rules, partial)
        return replace(type_, reduction=reshard.reduction if partial else SUM)

    def whole(self, node: Node, results: Sequence[Reshard]) -> None:
        """Appends a node with replicated operands and results, of which each device keeps its shards."""
        inputs = [self.replicated(operand, node) if isinstance(operand, Value) else operand for operand in node.inputs]
        kept = [replace(each, source={name: 0 for name in each.source}, pending=()) for each in results]
        self.finished(replace(node, inputs=tuple(inputs), outputs=tuple(map(self.as_made, kept))), node, kept)

    def replicated(self, operand: Value, node: Node) -> Value:
        owner = self.owner
        source = value_layout(operand, owner.roles, owner.rules)
        role = owner.roles[operand.id]
        return self.moved(Reshard(operand, role, "compute", source, (), {name: 0 for name in source}), node)

    def finished(self, placed: Node, node: Node, results: Sequence[Reshard]) -> None:
        """Appends a node, and what brings its results to their places."""
        owner = self.owner
        space = space_of(node, owner.roles)
        layout = owner.rules.layout(space.sizes, space.role, space.blocked)
        settled = [owner.placed(reshard.value) for reshard in results]
        disordered = [
            value.id == last.id and value.type != last.type for value, last in zip(placed.outputs, settled, strict=True)
        ]
        made = [owner.fresh(value) if off else value for value, off in zip(placed.outputs, disordered, strict=True)]
        made = [replace(new, type=old.type) for new, old in zip(made, placed.outputs, strict=True)]
        self.append(replace(placed, outputs=tuple(made)))
        for reshard, value, last in zip(results, made, settled, strict=True):
            if value.id != last.id:
                reduced = reduced_in(node, space, reshard.value)
                pending = zip(reduced, pending_reductions(reduced, layout), strict=True)
                over = tuple(name for name, mask in pending if int(mask))
                source = self.made_type(reshard)
                same = _same(reshard.source, reshard.target) and not source.partial
                if source != value.type:
                    value = self.ordered(reshard, value, source, node, last if same else None)
                if not same:
                    self.emit(reshard, value, node, over, last=last)
            self.define(reshard.value, last)

    def stacked(self, node: Node) -> None:
        """Appends a node with bodies. What a loop stacks it has in full, whatever is kept of it."""
        owner, scanned = self.owner, op_of(node).scanned(node)
        settled = [owner.placed(value) for value in node.outputs]
        made: list[Value] = []
        reshards: list[Reshard] = []
        for value, last in zip(node.outputs, settled, strict=True):
            target = value_layout(value, owner.roles, owner.rules)
            front = value.type.dims[0].name if value.type.dims else None
            split = (
                front is not None
                and front in scanned
                and value.id in stacked_results(node)
                and int(target.get(front, 0))
            )
            source = target | {front: 0} if split and front is not None else target
            role = owner.roles[value.id]
            reshards.append(Reshard(value, role, role, source, (), target))
            first = owner.fresh(value) if split else last
            made.append(replace(first, type=with_layout(value.type, source, owner.rules)))
        self.append(replace(node, outputs=tuple(made)))
        for reshard, value, last in zip(reshards, made, settled, strict=True):
            if value.id != last.id:
                self.emit(reshard, value, node, (), last=last)
            self.define(reshard.value, last)

    def append(self, node: Node) -> None:
        super().append(node)
        for value in node.outputs:
            self.maker[value.id] = node


def _union(masks: Sequence[Mask]) -> int:
    result = 0
    for mask in masks:
        result |= int(mask)
    return result


def _where(cause: Node | None) -> tuple[Phase, Source | None]:
    """The phase and the line of what a value is moved for."""
    return (cause.phase, cause.source) if cause is not None else ("forward", None)


def _same(first: Layout, second: Layout) -> bool:
    return all(int(first.get(name, 0)) == int(second.get(name, 0)) for name in {**first, **second})
