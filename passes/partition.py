"""Makes the communication explicit: every value gets its place on the mesh, every collective becomes a node.

The placed graph says all that happens on the mesh: which name moves over which mesh axis, how many bytes, for which
source line. Lowering pins exactly this.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ir.graph import Attr, Graph, Node, Operand, Value
from ir.ops import OPS, entered, op_of
from ir.rewrite import Rewriter, Scope
from ir.types import SUM, Dim, TensorType
from passes import errors, require
from passes.follow import warn_of_unfollowed
from passes.planner.layouts import Layouts
from passes.retype import laid_out, without_layout
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
from passes.sharding.mesh import DeviceMesh, Mask
from passes.sharding.reshard import Step, reshard_steps
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
        roles = assign_roles(graph, stage.at_rest)
        if graph != stage.graph:
            _refuse_another_plan(stage.graph, laid_out(graph, stage.plan, roles))
        warn_of_unfollowed(graph, stage.plan)
        placed = _Partitioner(stage.plan, roles, Rewriter(graph)).graph(graph, outermost=True)
        return replace(stage, graph=placed, unplaced=graph)


def partition(graph: Graph, plan: Layouts) -> Graph:
    """The graph placed according to `plan`, with collectives as nodes."""
    require.plan(plan, "partition")
    return Partition().apply(Stage(require.graph(graph, "partition"), plan.mesh, plan.hardware, plan)).graph


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
    def __init__(self, plan: Layouts, roles: Roles, rewriter: Rewriter) -> None:
        self.mesh: DeviceMesh = plan.mesh
        self.rules = plan.rules
        self.roles = roles
        self.fresh = rewriter.fresh

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
                reshard = Reshard(operand, self.roles[operand.id], "storage", source, (), target)
                outputs[after] = scope.moved(reshard, scope.maker.get(operand.id))
        return outputs


class _Scope(Scope):
    """One body being placed: the values so far, and copies of them in other places, made once each."""

    def __init__(self, owner: _Partitioner) -> None:
        super().__init__()
        self.owner = owner
        self.copies: dict[tuple[int, tuple[tuple[str, int], ...]], Value] = {}
        self.maker: dict[int, Node] = {}

    def moved(self, reshard: Reshard, cause: Node | None) -> Value:
        """The operand in the place asked for; a copy made before serves again."""
        wanted = tuple(sorted((name, int(mask)) for name, mask in reshard.target.items()))
        if wanted == tuple(sorted((name, int(mask)) for name, mask in reshard.source.items())):
            return self.values[reshard.value.id]
        key = (reshard.value.id, wanted)
        if key not in self.copies:
            self.copies[key] = self.emit(reshard, self.values[reshard.value.id], cause, ())
        return self.copies[key]

    def emit(
        self, reshard: Reshard, value: Value, cause: Node | None, over: tuple[str, ...], last: Value | None = None
    ) -> Value:
        """Appends the steps of a reshard; the result of the last one may be given (a node's own result)."""
        mesh = self.owner.mesh
        steps = list(
            reshard_steps(
                reshard.value.type,
                reshard.source,
                reshard.pending,
                reshard.target,
                mesh,
                reshard.reduction,
                self.owner.rules.compute,
            )
        )
        for i, step in enumerate(steps):
            result = self.owner.fresh(reshard.value) if last is None or i + 1 < len(steps) else last
            result = replace(result, type=self.placed_after(value.type, step, steps[i + 1 : i + 2]))
            summed = OPS[step.kind].completes_sums
            axis = _summed_names(reshard, over, int(step.mask)) if summed else (step.name or "",)
            attrs: dict[str, Attr] = {"axis": axis, "mesh": mesh.names(int(step.mask)), "bytes": int(step.bytes)}
            attrs["moving"] = _moving(reshard)
            phase, source = (cause.phase, cause.source) if cause is not None else ("forward", None)
            self.nodes.append(Node(step.kind, "", (value,), (result,), attrs, (), phase, source))
            value = result
        return value

    def placed_after(self, type_: TensorType, step: Step, following: Sequence[Step]) -> TensorType:
        """The type of a value after a step: shards are where they really are, in whatever order of mesh axes."""
        rules, seen, dims = self.owner.rules, set[str](), list[Dim]()
        for dim in type_.dims:
            axes = dim.mesh
            if dim.name is not None and dim.name not in seen:
                seen.add(dim.name)
                mask = int(step.after.get(dim.name, 0))
                if not OPS[step.kind].passes_on:
                    axes = rules.ordered(dim.name, mask)
                    kept = tuple([axis for axis in dim.mesh if axis in axes])
                    axes = kept + tuple([axis for axis in axes if axis not in kept])
                elif dim.name == step.name:
                    # Before mesh axes leave, they are brought innermost.
                    left = int(following[0].after.get(dim.name, 0)) & mask if following else mask
                    axes = rules.ordered(dim.name, left) + rules.ordered(dim.name, mask & ~left)
            dims.append(replace(dim, mesh=axes))
        partial = rules.mesh.names(int(step.partial))
        return replace(type_, dims=tuple(dims), partial=partial, reduction=type_.reduction if partial else SUM)

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
        space = space_of(node, owner.roles)
        layout = owner.rules.layout(space.sizes, space.role, space.blocked)
        made: list[Value] = []
        for reshard in results:
            settled = owner.placed(reshard.value)
            partial = _union(reshard.pending)
            direct = _same(reshard.source, reshard.target) and not partial
            first = settled if direct else owner.fresh(reshard.value)
            type_ = with_layout(reshard.value.type, reshard.source, owner.rules, partial)
            made.append(replace(first, type=replace(type_, reduction=reshard.reduction if partial else SUM)))
        self.append(replace(node, inputs=tuple(inputs), outputs=tuple(made)))
        for reshard, value in zip(results, made, strict=True):
            settled = owner.placed(reshard.value)
            if value.id != settled.id:
                reduced = reduced_in(node, space, reshard.value)
                pending = zip(reduced, pending_reductions(reduced, layout), strict=True)
                over = tuple(name for name, mask in pending if int(mask))
                self.emit(reshard, value, node, over, last=settled)
            self.define(reshard.value, settled)

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


def stacked_results(node: Node) -> set[int]:
    """Ids of the results that are stacked slices."""
    return {value.id for _, results in op_of(node).body_results(node) for _, value, stacked in results if stacked}


def _union(masks: Sequence[Mask]) -> int:
    result = 0
    for mask in masks:
        result |= int(mask)
    return result


def _summed_names(reshard: Reshard, over: tuple[str, ...], mask: int) -> tuple[str, ...]:
    """The names whose shards are summed over `mask`."""
    pending = [int(each) for each in reshard.pending if int(each)]
    return tuple(name for name, each in zip(over, pending, strict=True) if each & mask)


def _moving(reshard: Reshard) -> str:
    """What is on its way: a parameter, a gradient, or an activation. The cost model decides by it what may overlap."""
    if reshard.role == "storage" and reshard.target_role == "compute":
        return "parameter"
    if reshard.target_role == "storage":
        return "gradient"
    return "activation"


def _same(first: Layout, second: Layout) -> bool:
    return all(int(first.get(name, 0)) == int(second.get(name, 0)) for name in {**first, **second})
