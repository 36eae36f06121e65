"""Under a plan that says `attention: ring` the positions of keys are sharded as those of queries are, and the keys go
round the devices (Liu et al., "Ring Attention with Blockwise Transformers", arXiv:2310.01889).

Else each device has all keys: where the queries' positions are sharded, keys and values are gathered. This pass gives
the axis of the keys the name of the queries' axis, everywhere, so that one rule of a plan places both: nothing is
renamed in between, and nothing gathered. An attention whose `ring` lists that axis is computed by shards of its keys,
which `partition` has passed on from device to device (`ir.ops.rounds`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from ir.graph import Attr, Graph, Node, Operand, Phase, Value
from ir.names import is_derived
from ir.ops import op_of
from ir.rewrite import Rewriter, Scope
from ir.types import Dim, TensorType
from passes.canonicalize import canonical
from passes.planner import errors
from passes.planner.attention import RING, attention_of
from passes.stage import Pass, Stage

_OWN = ("", "blockwise")
"""Backends that compute block by block, as a ring does."""


@dataclass(frozen=True)
class RingAttention(Pass):
    """Pass: has the keys of attentions go round the devices, if the plan says so.

    Attributes:
        attention: ring; left out, as the plan says.
    """

    attention: str = ""

    def apply(self, stage: Stage) -> Stage:
        """The stage with such attentions. Raises `PlanError` where no attention of the step can be computed so."""
        asked = attention_of(self.attention)
        if asked:
            check_attention(stage.graph, asked)
        elif stage.plan is not None:
            asked = stage.plan.attention
        return replace(stage, graph=in_rings(stage.graph, asked))


def in_rings(graph: Graph, attention: str) -> Graph:
    """A canonical graph under a choice: itself where nothing is to be changed, as where that is done already."""
    if attention != RING:
        return graph
    axes = _Axes.of(graph)
    if not axes.together:
        return graph
    return canonical(_at_border(graph, axes.together))


def check_attention(graph: Graph, attention: str) -> None:
    """Whether a step, before or after it is rewritten, can follow a choice.

    Raises:
        PlanError: no attention of it can be computed in a ring.
    """
    if attention == RING and not may_ring(graph):
        refused = _Axes.of(graph).refused
        raise errors.no_ring(*next(iter(refused.values()), ("", "")))


def may_ring(graph: Graph) -> bool:
    """Whether an attention of the step can be computed in a ring, or is so already."""
    return bool(_Axes.of(graph).together) or any(node.dims("ring") for node in _attentions(graph))


def ring_axes(graph: Graph) -> dict[str, str]:
    """The axes of keys that would be sharded like those of queries, and these."""
    return _Axes.of(graph).together


def _attentions(graph: Graph) -> Iterator[Node]:
    return (node for node in graph.walk() if op_of(node).goes_round)


@dataclass
class _Axes:
    """The axes of keys that can have the name of the queries' axis, and this; of others the line and why not."""

    together: dict[str, str] = field(default_factory=dict[str, str])
    refused: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])

    @classmethod
    def of(cls, graph: Graph) -> "_Axes":
        found = cls()
        elastic = any(op_of(node).shares_trips for node in graph.walk())
        for node in _attentions(graph):
            keys = node.dims("along")[0]
            if node.dims("ring") or keys.name is None or keys.name in found.refused:
                continue
            queries = queries_of(node)
            why = errors.ring_of_elastic() if elastic else _refusal(node, keys, queries)
            known = found.together.get(keys.name)
            if not why and known is not None and queries is not None and known != queries.name:
                why = errors.ring_of_two(keys.name, known, str(queries.name))
            if why:
                found.refused[keys.name] = (str(node.source or ""), why)
            elif queries is not None and queries.name is not None:
                found.together[keys.name] = queries.name
        found.apart(graph)
        return found

    def apart(self, graph: Graph) -> None:
        """Refuses axes that an array has both of."""
        for value in graph.values() if self.together else ():
            words = {*_words(value)}
            for name in self.together.keys() & words:
                if self.together[name] in words:
                    self.refused[name] = ("", errors.ring_beside(name, self.together[name], str(value.type)))
        for name in self.refused:
            self.together.pop(name, None)


def queries_of(node: Node) -> Dim | None:
    """The positions of an attention's queries: the axis that its mask goes by; else the one that is called like the
    keys' without `key_`, or `position`; else the only one that the keys have not."""
    if node.dims("position"):
        return node.dims("position")[0]
    there = {dim.name for dim in (*node.inputs[1].type.dims, *node.dims("over"))}
    free = [dim for dim in node.inputs[0].type.dims if dim.name is not None and dim.name not in there]
    keys = str(node.dims("along")[0].name)
    named = [dim for name in (keys.removeprefix("key_"), "position") for dim in free if dim.name == name]
    return named[0] if named else free[0] if len(free) == 1 else None


def _refusal(node: Node, keys: Dim, queries: Dim | None) -> str:
    """Why the keys of an attention cannot go round; empty where they can."""
    if queries is None or queries.name is None or is_derived(queries.name):
        return errors.ring_without_queries(str(keys.name))
    if queries.size != keys.size:
        return errors.ring_of_sizes(str(keys.name), keys.size, queries.name, queries.size)
    if "visible" in node.words("masks"):
        return errors.ring_of_pairs()
    if node.fn == "tangent":
        return errors.ring_forward()
    if str(node.attrs.get("backend", "")) not in _OWN:
        return errors.ring_of_backend(str(node.attrs["backend"]))
    return ""


def _words(value: Value) -> Iterator[str]:
    """The axes that the dims of a value are, or are made of."""
    for dim in value.type.dims:
        if dim.name is not None:
            yield from re.findall(r"\w+", dim.name) if is_derived(dim.name) else (dim.name.rstrip("'"),)


def _at_border(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with other names of axes but in its arguments and results."""
    inside, rewriter = _renamed(graph, names), Rewriter(graph)
    scope = Scope()
    for own, value in zip(graph.inputs, inside.inputs, strict=True):
        if own.type != value.type:
            scope.append(_rename(own, scope.define(value, rewriter.fresh(value)), "forward"))
    for node in inside.nodes:
        scope.append(scope.current(node, lambda body: body))
    outputs: list[Operand] = []
    for own, operand in zip(graph.outputs, scope.reads(inside.outputs), strict=True):
        if isinstance(operand, Value) and own.type != operand.type:
            scope.append(
                _rename(operand, renamed := Value(rewriter.fresh(operand).id, own.type), scope.nodes[-1].phase)
            )
            operand = renamed
        outputs.append(operand)
    return replace(inside, inputs=graph.inputs, nodes=tuple(scope.nodes), outputs=tuple(outputs))


def _rename(value: Value, result: Value, phase: Phase) -> Node:
    return Node("rename", "", (value,), (result,), {"old": value.type.dims}, (), phase)


def _renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with other names of axes, without the operations that only renamed one to the other."""
    scope = Scope()
    inputs = tuple([scope.define(value, _with_names(value, names)) for value in graph.inputs])
    for node in graph.nodes:
        made = scope.current(node, partial(_renamed, names=names))
        outputs = tuple([_with_names(value, names) for value in node.outputs])
        if op_of(node).renames and made.inputs[0].type == outputs[0].type:
            scope.values[node.outputs[0].id] = _value(made.inputs[0])
            continue
        attrs = {key: _attr(each, names) for key, each in made.attrs.items()}
        if op_of(node).goes_round and node.names("along") and node.names("along")[0] in names:
            attrs["ring"] = (Dim(names[node.names("along")[0]], node.dims("along")[0].size),)
        for old, new in zip(node.outputs, outputs, strict=True):
            scope.define(old, new)
        scope.append(replace(made, outputs=outputs, attrs=dict(sorted(attrs.items()))))
    return scope.finish(graph, inputs=inputs)


def _value(operand: Operand) -> Value:
    assert isinstance(operand, Value)
    return operand


def _with_names(value: Value, names: Mapping[str, str]) -> Value:
    dims = tuple([_dim(dim, names) for dim in value.type.dims])
    return value if dims == value.type.dims else replace(value, type=_typed(value.type, dims))


def _typed(type_: TensorType, dims: tuple[Dim, ...]) -> TensorType:
    return replace(type_, dims=dims)


def _attr(attr: Attr, names: Mapping[str, str]) -> Attr:
    if not isinstance(attr, tuple):
        return attr
    return tuple([_dim(each, names) if isinstance(each, Dim) else each for each in attr])  # type: ignore[return-value]


def _dim(dim: Dim, names: Mapping[str, str]) -> Dim:
    if dim.name is None:
        return dim
    name = dim.name
    for old, new in names.items():
        if old in name:
            name = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", new, name)
    return dim if name == dim.name else replace(dim, name=name)
