"""Axes whose size no mesh axis divides are padded where they are computed with, so that they may be sharded.

`padding: {vocab: 50260}` lets four devices share a vocabulary of 50257. From outside the step is the same: what comes
in is padded behind its end where the forward and the backward pass read it, and a gradient is cut to its size again for
the update, so state is neither stored nor saved with padding. Padding may hold anything, but for what is summed, or
taken a maximum of, along the axis: there a mask puts what changes nothing (`ir.ops.padding`). An operation that cannot
do with padding, such as a sort along the axis or random numbers of its shape, works on what is no padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jax import lax
from jax.lax import GatherScatterMode

from ir.graph import Attr, Graph, Node, Operand, Origin, Value
from ir.literals import literal_of
from ir.ops import entered, op_of
from ir.ops.indexed import Indexed
from ir.ops.op import params_of
from ir.ops.padding import neutral
from ir.rewrite import Rewriter
from ir.shards import Shards
from ir.types import SUM, Dim, TensorType
from passes.canonicalize import canonical
from passes.planner import errors
from passes.recomputed import changes_in_place
from passes.runner import LocalRunner, WholeRunner
from passes.stage import Pass, Stage

Form = Literal["own", "padded"]
_INDEX = "int32"


@dataclass(frozen=True)
class PadAxes(Pass):
    """Pass: pads axes that the mesh does not divide, as the plan says.

    Attributes:
        sizes: what is padded to what, such as `vocab=50260`; left out, as the plan says.
    """

    sizes: tuple[str, ...] = ()

    def apply(self, stage: Stage) -> Stage:
        """The stage with such axes padded. Raises `PlanError` for a name that the step does not have, and for a size
        that is no longer than its axis."""
        asked = _read(self.sizes) if self.sizes else stage.plan.padding if stage.plan is not None else {}
        check_padding(stage.graph, asked)
        return replace(stage, graph=padded(stage.graph, asked))


def check_padding(graph: Graph, sizes: Mapping[str, int]) -> None:
    """Whether a step can be padded so: each name is one of its axes, and becomes longer.

    Raises:
        PlanError: it cannot.
    """
    known = graph.axis_sizes()
    for name, size in sizes.items():
        if name not in known:
            raise errors.padding_name(name, tuple(known))
        if size < known[name]:
            raise errors.padding_too_short(name, size, known[name])


def _read(sizes: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for written in sizes:
        name, _, size = written.partition("=")
        if not name or not size.isascii() or not size.isdigit():
            raise errors.padding_unread(written)
        found[name] = int(size)
    return found


def padded(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """A canonical graph with some axes padded to these sizes: itself where there is nothing to pad."""
    lengths = graph.axis_sizes()
    grown = {Dim(name, lengths[name]): size for name, size in sizes.items() if lengths.get(name, size) < size}
    if not grown:
        return graph
    return canonical(_Padder(grown, Rewriter(graph)).graph(graph, "own"))


@dataclass
class _Scope:
    """One graph, or body, being copied.

    Attributes:
        own: by the numbers of the old values, what stands for them without padding.
        padded: the same with padding.
    """

    nodes: list[Node] = field(default_factory=list[Node])
    own: dict[int, Value] = field(default_factory=dict[int, Value])
    padded: dict[int, Value] = field(default_factory=dict[int, Value])

    def form(self, form: Form) -> dict[int, Value]:
        return self.padded if form == "padded" else self.own


@dataclass
class _Padder:
    """Copies a graph. A value with a dim that grows may be there without padding, with it, or in both forms; the other
    form is made where it is read first.

    Attributes:
        grown: the dims that are padded, and to what.
        zeros: padded values, by their numbers, whose padding along a name is 0.
    """

    grown: Mapping[Dim, int]
    rewriter: Rewriter
    zeros: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])

    def graph(self, graph: Graph, form: Form) -> Graph:
        """The graph, whose inputs and outputs have one form."""
        scope, inputs = _Scope(), list[Value]()
        for value in graph.inputs:
            new = self.longer(value) if form == "padded" and self.grows(value) else value
            scope.form(form if self.grows(value) else "own")[value.id] = new
            inputs.append(new)
        for node in graph.nodes:
            if not self.in_padding(node, scope):
                scope.nodes.append(replace(node, inputs=self.reads(node, scope, "own")))
                scope.own |= {value.id: value for value in node.outputs}
        last = graph.nodes[-1] if graph.nodes else None
        outputs = tuple([self.read(operand, scope, form, last) for operand in graph.outputs])
        return replace(graph, inputs=tuple(inputs), nodes=tuple(scope.nodes), outputs=outputs)

    # --- types ------------------------------------------------------------------------------------------------------

    def grows(self, operand: Operand) -> bool:
        return any(dim in self.grown for dim in operand.type.dims)

    def dims(self, dims: Sequence[Dim]) -> tuple[Dim, ...]:
        return tuple([replace(dim, size=self.grown.get(dim, dim.size)) for dim in dims])

    def longer(self, value: Value) -> Value:
        """A new value of the same dims, padded."""
        return replace(self.rewriter.fresh(value), type=replace(value.type, dims=self.dims(value.type.dims)))

    def attribute(self, given: Attr) -> Attr:
        if not isinstance(given, tuple):
            return given
        return self.dims([each for each in given if isinstance(each, Dim)]) or given

    # --- nodes ------------------------------------------------------------------------------------------------------

    def in_padding(self, node: Node, scope: _Scope) -> bool:
        """Whether a node that has to do with what is padded is done so: not in the update, and not where it cannot."""
        values = (*node.inputs, *node.outputs)
        names = {dim.name for each in values for dim in each.type.dims if dim in self.grown and dim.name is not None}
        inside = any(self.grows(value) for body in entered(node) for value in body.values())
        if node.phase == "update" or not (names or inside):
            return False
        kept = len(scope.nodes)
        made = self.structured(node, scope) if node.bodies else self.plain(node, names, scope)
        if made is None or any(op_of(made).faults(made)):
            del scope.nodes[kept:]
            return False
        scope.nodes.append(made)
        for old, new in zip(node.outputs, made.outputs, strict=True):
            scope.form("padded" if self.grows(old) else "own")[old.id] = new
        return True

    def plain(self, node: Node, names: set[str], scope: _Scope) -> Node | None:
        """A node between padded values; None where there is none."""
        op = op_of(node)
        fillings = op.padding(node, names)
        if fillings is None:
            return None
        inputs = list(self.reads(node, scope, "padded"))
        for position, filling in enumerate(fillings):
            for name, reduction in sorted(filling.items()):
                inputs[position] = self.masked(inputs[position], name, reduction, scope, node)
        if op.picks_by_indices:
            indices = self.indices(node, inputs[1], scope)
            if indices is None:
                return None
            inputs[1] = indices
        attrs = {key: self.attribute(given) for key, given in node.attrs.items()}
        outputs = tuple([self.longer(value) if self.grows(value) else value for value in node.outputs])
        made = replace(node, inputs=tuple(inputs), outputs=outputs, attrs=attrs)
        if node.origin is not None:
            made = replace(made, origin=replace(node.origin, params=op.padded(made, node)))
        if op.stays_proportional and isinstance(inputs[0], Value):
            self.zeros |= {
                (value.id, name) for value in outputs for name in names if (inputs[0].id, name) in self.zeros
            }
        return made

    def structured(self, node: Node, scope: _Scope) -> Node | None:
        """A loop, branch or call whose bodies are padded too."""
        op = op_of(node)
        if not entered(node) or changes_in_place(node) or any(dim in self.grown for dim in node.dims("over")):
            return None
        bodies = tuple([self.graph(body, "padded") for body in node.bodies])
        outputs = tuple([self.longer(value) if self.grows(value) else value for value in node.outputs])
        made = replace(node, inputs=self.reads(node, scope, "padded"), outputs=outputs, bodies=bodies)
        if node.origin is None:
            return made
        params = node.origin.params
        sized, whole = LocalRunner(Shards({})), WholeRunner(None)
        closed = [
            whole.closed(body, sized.shapes(body, jaxpr)) for body, jaxpr in zip(bodies, op.jaxprs(params), strict=True)
        ]
        return replace(made, origin=replace(node.origin, params={**params, **op.with_jaxprs(params, closed)}))

    # --- what is put between ----------------------------------------------------------------------------------------

    def reads(self, node: Node, scope: _Scope, form: Form) -> tuple[Operand, ...]:
        return tuple([self.read(operand, scope, form, node) for operand in node.inputs])

    def read(self, operand: Operand, scope: _Scope, form: Form, reader: Node | None) -> Operand:
        """An operand of the old graph in one form."""
        if not isinstance(operand, Value):
            return operand
        if not self.grows(operand):
            return scope.own[operand.id]
        there = scope.form(form)
        if operand.id not in there:
            assert reader is not None
            other = scope.form("own" if form == "padded" else "padded")[operand.id]
            there[operand.id] = (
                self.behind(other, scope, reader) if form == "padded" else self.cut(operand, other, scope, reader)
            )
        return there[operand.id]

    def behind(self, value: Value, scope: _Scope, reader: Node) -> Value:
        """A value with zeros behind its end."""
        made = self.longer(value)
        along = tuple([dim for dim in value.type.dims if dim in self.grown])
        edges = tuple([(0, self.grown.get(dim, dim.size) - dim.size, 0) for dim in value.type.dims])
        zero = literal_of(neutral(SUM, value.type.dtype), value.type.dtype)
        self.put(scope, reader, "pad", "", (value, zero), made, lax.pad_p, {"padding_config": edges}, along=along)
        self.zeros |= {(made.id, dim.name) for dim in along if dim.name is not None}
        return made

    def cut(self, old: Value, value: Value, scope: _Scope, reader: Node) -> Value:
        """A value without its padding."""
        made = self.rewriter.fresh(old)
        along = tuple([new for was, new in zip(old.type.dims, value.type.dims, strict=True) if was in self.grown])
        params = {"start_indices": (0,) * len(old.type.dims), "limit_indices": old.type.shape, "strides": None}
        self.put(scope, reader, "slice", "static", (value,), made, lax.slice_p, params, along=along)
        return made

    def masked(self, operand: Operand, name: str, reduction: str, scope: _Scope, reader: Node) -> Operand:
        """An operand whose padding along an axis changes nothing in a reduction."""
        if not isinstance(operand, Value) or (reduction == SUM and (operand.id, name) in self.zeros):
            return operand
        lengths = {Dim(dim.name, size): dim.size for dim, size in self.grown.items() if dim.name == name}
        kept = {other for number, other in self.zeros if number == operand.id}
        for position, dim in enumerate(operand.type.dims):
            if dim in lengths:
                operand = self.masked_at(operand, position, lengths[dim], reduction, scope, reader)
        if reduction == SUM:
            self.zeros |= {(operand.id, each) for each in (*kept, name)}
        return operand

    def masked_at(self, value: Value, position: int, length: int, reduction: str, scope: _Scope, reader: Node) -> Value:
        type_, dim = value.type, value.type.dims[position]
        nothing = literal_of(neutral(reduction, type_.dtype), type_.dtype)
        places, within = self.new(TensorType(_INDEX, (dim,))), self.new(TensorType("bool", (dim,)))
        everywhere, filling = self.new(replace(type_, dtype="bool")), self.new(type_)
        made = self.new(type_)
        counted = {"dtype": np.dtype(_INDEX), "shape": (dim.size,), "dimension": 0, "sharding": None}
        self.put(scope, reader, "iota", "", (), places, lax.iota_p, counted, along=(dim,))
        end = literal_of(np.int32(length), _INDEX)
        self.put(scope, reader, "map", "lt", (places, end), within, lax.lt_p, {})
        self.repeat(scope, reader, within, everywhere, (position,))
        self.repeat(scope, reader, nothing, filling, ())
        self.put(scope, reader, "map", "select_n", (everywhere, filling, value), made, lax.select_n_p, {})
        return made

    def indices(self, node: Node, indices: Operand, scope: _Scope) -> Operand | None:
        """Indices that mean in a padded array what they meant: those beyond the end are still beyond it. None where
        that cannot be had."""
        op, dims = op_of(node), node.inputs[0].type.dims
        assert isinstance(op, Indexed)
        axes = op.looked_up_axes(node)
        longer = [dims[axis] for axis in axes if dims[axis] in self.grown]
        mode = params_of(node).get("mode")
        if not longer or mode == GatherScatterMode.PROMISE_IN_BOUNDS:
            return indices
        if not op.picks and mode != GatherScatterMode.CLIP:  # what is written into the padding is nowhere
            return indices
        if len(axes) > 1:
            return None
        most, (dim,) = np.iinfo(indices.type.dtype).max, longer
        if most < self.grown[dim]:
            return None
        dtype, made = indices.type.dtype, self.new(indices.type)
        last = literal_of(np.dtype(dtype).type(dim.size - 1), dtype)
        if mode == GatherScatterMode.CLIP:
            self.put(scope, node, "map", "min", (indices, last), made, lax.min_p, {})
            return made
        beyond, far = self.new(replace(indices.type, dtype="bool")), self.new(indices.type)
        self.put(scope, node, "map", "gt", (indices, last), beyond, lax.gt_p, {})
        self.repeat(scope, node, literal_of(np.dtype(dtype).type(most), dtype), far, ())
        self.put(scope, node, "map", "select_n", (beyond, indices, far), made, lax.select_n_p, {})
        return made

    def new(self, type_: TensorType) -> Value:
        return replace(self.rewriter.fresh(Value(0, type_)), type=type_)

    def repeat(self, scope: _Scope, reader: Node, operand: Operand, result: Value, at: tuple[int, ...]) -> None:
        params = {"shape": result.type.shape, "broadcast_dimensions": at, "sharding": None}
        self.put(scope, reader, "broadcast", "", (operand,), result, lax.broadcast_in_dim_p, params)

    def put(
        self,
        scope: _Scope,
        reader: Node,
        kind: str,
        fn: str,
        inputs: tuple[Operand, ...],
        result: Value,
        primitive: Any,
        params: Mapping[str, Any],
        **attrs: Attr,
    ) -> None:
        """A node for the sake of another one, at whose line and in whose phase it stands."""
        origin = None if reader.origin is None else Origin(primitive, params, None, reader.origin.source_info)
        made = Node(kind, fn, inputs, (result,), attrs, (), reader.phase, reader.source, origin)
        scope.nodes.append(made)
