"""What the backward pass reads of the forward pass is computed again, and need not be kept (gradient checkpointing;
Chen et al. 2016, "Training deep nets with sublinear memory cost").

A loop over layers stacks what its backward loop will read, slice by slice. Under a plan that says `remat: full` it
stacks what it carries from layer to layer instead, and the backward loop begins each trip by computing that layer once
more. With names in place of `full`, what products make of these axes is stacked too, and what
`jax.ad_checkpoint.checkpoint_name` has called so: what is computed again begins there. Loops inside of other loops, as
over micro-batches, are treated alike; what stands outside of loops is kept, for there the backward pass begins.

No barrier is needed against a compiler that merges equal operations: the two computations are in two loops.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ir.graph import Graph, Node, Operand, Value
from ir.ops import entered, op_of
from ir.ops.op import params_of
from ir.rewrite import Rewriter, Scope
from passes.canonicalize import canonical
from passes.planner.errors import remat_name
from passes.planner.remat import ALL, AS_IT_IS, NOTHING, Remat, remat_of
from passes.recomputed import avals_of, changes_in_place, copies, leaves, recomputable, recomputed, with_body
from passes.stage import Pass, Stage


@dataclass(frozen=True)
class Rematerialize(Pass):
    """Pass: computes again in the backward pass what the plan does not keep of the forward pass.

    Attributes:
        remat: none, full, or names that are kept; left out, as the plan says.
    """

    remat: tuple[str, ...] = ()

    def apply(self, stage: Stage) -> Stage:
        """The stage with such values computed again. Raises `PlanError` for an option that the loops cannot follow."""
        if asked := remat_of(self.remat):
            check_remat(stage.graph, asked)
        elif stage.plan is not None:
            asked = stage.plan.remat
        return replace(stage, graph=rematerialized(stage.graph, asked))


def rematerialized(graph: Graph, remat: Remat) -> Graph:
    """The graph under a policy: itself where there is nothing to compute again, as where that is done already."""
    if remat in (AS_IT_IS, NOTHING):
        return graph
    made = _Rematerializer(Rewriter(graph), frozenset(remat) - frozenset(ALL)).graph(graph)
    return graph if made is graph else canonical(made)


def check_remat(graph: Graph, remat: Remat) -> None:
    """Whether a step, before it is rewritten, can follow a policy.

    Raises:
        PlanError: a name is of nothing that could be kept.
    """
    known = saveable(graph)
    for name in remat:
        if name not in (*NOTHING, *known) and (remat != ALL or not known):
            raise remat_name(name, known)


def saveable(graph: Graph) -> tuple[str, ...]:
    """The names that `remat` may keep, in alphabetic order: of what products make in loops over layers that have a
    backward loop, and those of marks."""
    found = {name for node in _again(graph) for name in _names(node)}
    return tuple(sorted(found))


def what_is_saved(graph: Graph, names: frozenset[str]) -> frozenset[Operand]:
    """The values that some names keep: policies that keep the same are one."""
    kept = [node for node in _again(graph) if names & _names(node)]
    return frozenset((node.inputs[0] if _is_marked(node) else node.outputs[0]) for node in kept)


def _again(graph: Graph) -> Iterator[Node]:
    """What `full` would compute again."""
    for pair in _pairs(graph):
        yield from recomputed(pair.body, pair.dropped(frozenset()), frozenset())
    for node in graph.nodes:
        for body in entered(node):
            yield from _again(body)


def _names(node: Node) -> set[str]:
    """The names that keep a node's result: of its axes, if products make it; and that of a mark."""
    if _is_marked(node):
        return {str(params_of(node)["name"])}
    return {name for value in node.outputs for name in value.type.names} if _multiplies(node) else set()


def _is_marked(node: Node) -> bool:
    """Whether a node says what `jax.ad_checkpoint.checkpoint_name` calls its operand; a text has lost that."""
    return node.fn == "name" and isinstance(params_of(node).get("name"), str)


def _multiplies(node: Node) -> bool:
    return op_of(node).flops(node) > 0 or any(_multiplies(inner) for body in entered(node) for inner in body.nodes)


@dataclass(frozen=True)
class _Pair:
    """A loop of the forward pass and one of the backward pass that reads what it stacks.

    Attributes:
        reads: positions among the operands of `backward`, and of the results of `forward` that are there.
    """

    forward: Node
    backward: Node
    reads: Mapping[int, int]

    @property
    def body(self) -> Graph:
        return self.forward.bodies[0]

    def dropped(self, saved: frozenset[str]) -> list[Value]:
        """What the forward body makes, hands over and need not."""
        kept = _kept(self.body, saved)
        inputs = {value.id for value in self.body.inputs}
        made = {value.id: value for _, value in self.handed() if value.id not in inputs | kept}
        return [value for value in made.values() if recomputable(self.body, value, kept)]

    def handed(self) -> list[tuple[int, Value]]:
        """What the backward loop reads of the forward loop: the position of a result, and what the body gives."""
        given = [(at, self.body.outputs[at]) for at in dict.fromkeys(self.reads.values())]
        return [(at, inside) for at, inside in given if isinstance(inside, Value)]


def _kept(body: Graph, saved: frozenset[str]) -> frozenset[int]:
    """The values of a body that names keep."""
    return frozenset(value.id for node in body.nodes if saved & _names(node) for value in node.outputs)


def _pairs(graph: Graph) -> list[_Pair]:
    """The pairs of one scope. What anything else reads of a loop stays what it stacks."""
    made: dict[int, tuple[Node, int]] = {}
    for node in graph.nodes:
        if node.phase == "forward" and op_of(node).scans(node) and entered(node) and not changes_in_place(node):
            start = node.count("carries", 0)
            made |= {value.id: (node, i) for i, value in enumerate(node.outputs) if i >= start}
    elsewhere = {operand.id for operand in graph.outputs if isinstance(operand, Value)}
    found: dict[tuple[int, int], tuple[Node, Node, dict[int, int]]] = {}
    for at, node in enumerate(graph.nodes):
        pairs = node.phase == "backward" and op_of(node).scans(node) and entered(node)
        for position, operand in enumerate(node.inputs):
            if not isinstance(operand, Value) or operand.id not in made:
                continue
            forward, result = made[operand.id]
            if pairs and op_of(node).slices_of(node, position) and node.count("trips") == forward.count("trips"):
                found.setdefault((forward.outputs[0].id, at), (forward, node, {}))[2][position] = result
            else:
                elsewhere.add(operand.id)
    pairs_of_scope: list[_Pair] = []
    for forward, backward, reads in found.values():
        alone = {p: r for p, r in reads.items() if forward.outputs[r].id not in elsewhere}
        if alone:
            pairs_of_scope.append(_Pair(forward, backward, alone))
    return pairs_of_scope


@dataclass
class _Stacking:
    """What a loop of the forward pass stacks from now on: its results, each with what the body gives for it, and for a
    value of the body the result that stacks it."""

    outputs: list[tuple[Value, Operand]]
    of: dict[int, Value] = field(default_factory=dict[int, Value])


class _Rematerializer:
    """Copies a graph whose loops hand over less."""

    def __init__(self, rewriter: Rewriter, saved: frozenset[str]) -> None:
        self.rewriter = rewriter
        self.saved = saved

    def graph(self, graph: Graph) -> Graph:
        """The graph with its loops, and those in its bodies, rewritten; itself where there is nothing to rewrite."""
        pairs = [pair for pair in _pairs(graph) if pair.dropped(self.saved)]
        stackings: dict[int, _Stacking] = {}
        for pair in pairs:
            self.stacked(pair, stackings)
        scope, changed = Scope(), bool(pairs)
        for node in graph.nodes:
            key = _key(node)
            for pair in pairs:
                if _key(pair.backward) == key:
                    node = self.computing(node, pair, stackings[_key(pair.forward)])
            if key in stackings:
                results, inner = zip(*stackings[key].outputs, strict=True)
                changed_body = replace(node.bodies[0], outputs=inner)
                node = with_body(replace(node, outputs=results), changed_body, avals_of(node))
            bodies = tuple([self.graph(body) for body in entered(node)]) or node.bodies
            if any(new is not old for new, old in zip(bodies, node.bodies, strict=True)):
                node, changed = replace(node, bodies=bodies), True
            scope.append(node)
        return scope.finish(graph) if changed else graph

    def stacked(self, pair: _Pair, stackings: dict[int, _Stacking]) -> None:
        """Makes the forward loop stack what computing again begins with, and not what that makes."""
        forward, body, dropped = pair.forward, pair.body, pair.dropped(self.saved)
        constants, carries = forward.count("constants", 0), forward.count("carries", 0)
        mine = stackings.setdefault(_key(forward), _Stacking(list(zip(forward.outputs, body.outputs, strict=True))))
        gone = {forward.outputs[at].id for at, inside in pair.handed() if inside.id in {v.id for v in dropped}}
        mine.outputs = [each for each in mine.outputs if each[0].id not in gone]
        stacks = mine.outputs[carries:]
        mine.of = {inside.id: result for result, inside in stacks if isinstance(inside, Value)}
        outside = {value.id for i, value in enumerate(body.inputs) if not constants <= i < constants + carries}
        (over,) = forward.dims("over")
        for value in leaves(recomputed(body, dropped, _kept(body, self.saved))):
            if value.id not in mine.of and value.id not in outside:
                type_ = replace(value.type, dims=(over, *value.type.dims))
                mine.of[value.id] = self.rewriter.fresh(Value(0, type_))
                mine.outputs.append((mine.of[value.id], value))

    def computing(self, node: Node, pair: _Pair, stacking: _Stacking) -> Node:
        """The backward loop, which makes by itself what was handed over."""
        forward, body, dropped = pair.forward, node.bodies[0], pair.dropped(self.saved)
        constants, carries = node.count("constants", 0), node.count("carries", 0)
        operands = list(zip(node.inputs, body.inputs, strict=True))
        avals = {**avals_of(node)}
        fixed: list[tuple[Operand, Value]] = []
        sliced: list[tuple[Operand, Value]] = []
        stands: dict[int, Value] = {}
        again = recomputed(pair.body, dropped, _kept(pair.body, self.saved))
        fed_by = enumerate(zip(forward.inputs, pair.body.inputs, strict=True))
        feeding = {inside.id: (i, outside) for i, (outside, inside) in fed_by}
        for value in leaves(again):
            stack = stacking.of.get(value.id)
            at, outside = feeding.get(value.id, (-1, value)) if stack is None else (-1, stack)
            slices = stack is not None or op_of(forward).slices_of(forward, at)
            known = [
                inside
                for i, (operand, inside) in enumerate(operands)
                if operand == outside and op_of(node).slices_of(node, i) == slices and not op_of(node).is_carry(node, i)
            ]
            stands[value.id] = known[0] if known else self.rewriter.fresh(value)
            if not known:
                (sliced if slices else fixed).append((outside, stands[value.id]))
                if value.id in (before := avals_of(forward)):
                    avals[stands[value.id].id] = before[value.id]
        copied = copies(again, stands, self.rewriter, node.phase)
        handed = {pair.forward.outputs[at].id: inside for at, inside in pair.handed()}
        gone = {value.id for value in dropped}
        scope, kept = Scope(), list[tuple[Operand, Value]]()
        for outside, inside in operands[constants + carries :]:
            was = handed.get(outside.id) if isinstance(outside, Value) else None
            if was is not None and was.id in gone:
                scope.define(inside, stands[was.id])
            else:
                kept.append((outside, inside))
        for each in (*copied, *body.nodes):
            scope.append(scope.current(each, lambda unchanged: unchanged))
        fed = [*operands[:constants], *fixed, *operands[constants : constants + carries], *kept, *sliced]
        made = scope.finish(body, inputs=tuple([inside for _, inside in fed]))
        attrs = {**node.attrs, "constants": constants + len(fixed)}
        node = replace(node, inputs=tuple([outside for outside, _ in fed]), attrs=attrs)
        return with_body(node, made, avals)


def _key(node: Node) -> int:
    return node.outputs[0].id if node.outputs else -1
