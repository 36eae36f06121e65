"""Staging: a JAX function with named arguments becomes a `Graph`.

`jax.make_jaxpr` gives the whole step (loss, backward pass, update); one walk over its equations applies the rules and
merges dims; then names are read off the classes and the graph is numbered. Calls that only group equations (`jit`,
custom derivatives, which have done their work by then) are inlined; loops, branches and `checkpoint` keep their bodies.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from haliax.array import NamedArray
from haliax.staging import staging
from ir import control
from ir._compat import joined_source_info, user_source
from ir.graph import Constant, Graph, Origin, Source
from ir.jax_api import leaves_with_path, make_jaxpr, tree_flatten, tree_structure
from ir.names import Unifier
from ir.numbering import finish
from ir.phases import BACKWARD_MARK
from ir.proto import ProtoBody, ProtoNode, ProtoOperand, ProtoValue
from ir.rules import RULES, Draft, Equation, opaque
from ir.types import TensorType


@dataclass(frozen=True)
class Trees:
    """How flat graph inputs and outputs stand in the step's arguments and result."""

    arguments: Any
    outputs: Any


def trace(step: Callable[..., Any], *arguments: Any) -> Graph:
    """The graph of `step(*arguments)`.

    Leaves of `arguments` are `NamedArray`s, arrays or `jax.ShapeDtypeStruct`s (also inside a `NamedArray`); only
    shapes, dtypes and names are read. Where the step returns its first argument's structure, alone or first in a tuple,
    the leaves of the two that have the same size and dtype are `carried`: state, before and after.
    """
    with staging():
        closed, shapes = make_jaxpr(step, return_shape=True)(*arguments)
    builder = _Builder(Unifier())
    leaves, tree = _named_leaves(arguments)
    inputs = tuple(
        builder.named_value(var.aval, names) for var, (_, names) in zip(closed.jaxpr.invars, leaves, strict=True)
    )
    body = builder.body(closed.jaxpr, closed.consts, inputs, getattr(step, "__name__", "step"))
    out_leaves, out_tree = _named_leaves(shapes)
    for operand, (_, names) in zip(body.outputs, out_leaves, strict=True):
        if isinstance(operand, ProtoValue):
            builder.suggest(operand, names)
    return finish(
        body,
        builder.unifier,
        input_paths=_argument_paths(step, arguments, leaves),
        output_paths=tuple(path for path, _ in out_leaves),
        carried=_carried(arguments, closed.in_avals, shapes),
        trees=Trees(tree, out_tree),
    )


def _is_named(leaf: Any) -> bool:
    return isinstance(leaf, NamedArray)


def _named_leaves(tree: Any) -> tuple[list[tuple[str, tuple[str | None, ...]]], Any]:
    """(path, names) of every array leaf, in JAX's flattening order, and the tree."""
    leaves = [(path, _names_of(leaf)) for path, leaf in leaves_with_path(tree, is_leaf=_is_named)]
    return leaves, tree_structure(tree)


def _names_of(leaf: Any) -> tuple[str | None, ...]:
    return tuple(axis.name for axis in leaf.axes) if isinstance(leaf, NamedArray) else (None,) * np.ndim(leaf)


def _argument_paths(step: Any, arguments: Sequence[Any], leaves: Sequence[tuple[str, Any]]) -> tuple[str, ...]:
    """`0.model.weight` → `state.model.weight`, with the parameter names of the step where it shows them."""
    try:
        parameters = [
            p.name
            for p in inspect.signature(step).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        parameters = []
    parameters += [f"argument{i}" for i in range(len(parameters), len(arguments))]

    def renamed(path: str) -> str:
        index, _, rest = path.partition(".")
        return parameters[int(index)] + (f".{rest}" if rest else "")

    return tuple(renamed(path) for path, _ in leaves)


def _carried(arguments: Sequence[Any], avals: Sequence[Any], result: Any) -> tuple[tuple[int, int], ...]:
    """Pairs of leaves that are one piece of state. In a container, names take no part: where the step changes them,
    that is an axis error of carried state, which `passes.check_axes` finds. A leaf of another size or dtype is no
    state, and a bare array that comes back with other names is a result."""
    if not arguments:
        return ()
    whole = arguments[0]
    _, state = tree_flatten(whole, is_leaf=_is_named)
    candidates: list[Any] = [result, *(result[:1] if isinstance(result, tuple) else ())]
    for candidate in candidates:
        after, structure = tree_flatten(candidate, is_leaf=_is_named)
        if structure == state and not (_is_named(whole) and tree_structure(candidate) != tree_structure(whole)):
            pairs = enumerate(zip(avals, after, strict=False))
            return tuple((i, i) for i, (old, new) in pairs if _storage(old) == _storage(new))
    return ()


def _storage(leaf: Any) -> tuple[str, list[int]]:
    array = leaf.array if isinstance(leaf, NamedArray) else leaf
    return str(array.dtype), sorted(array.shape)


class _Builder:
    """Walks jaxprs, applies rules, collects draft nodes."""

    def __init__(self, unifier: Unifier) -> None:
        self.unifier = unifier

    def named_value(self, aval: Any, names: Sequence[str | None]) -> ProtoValue:
        dims = tuple(self.unifier.fresh(size, name) for size, name in zip(aval.shape, names, strict=True))
        return ProtoValue(dims, str(aval.dtype))

    def suggest(self, value: ProtoValue, names: Sequence[str | None]) -> None:
        """Names a result's dims after the NamedArray that it is in."""
        for dim, name in zip(value.dims, names, strict=True):
            if name is not None:
                self.unifier.same(dim, self.unifier.fresh(self.unifier.size_of(dim), name))

    def body(
        self,
        jaxpr: Any,
        consts: Sequence[Any],
        inputs: Sequence[ProtoValue],
        name: str,
        outer: Any = None,
        backward: bool = False,
    ) -> ProtoBody:
        """The draft of a jaxpr whose inputs have the given dims."""
        scope = _Scope(self, outer, backward)
        constants = [scope.constant(var.aval, value) for var, value in zip(jaxpr.constvars, consts, strict=True)]
        outputs = scope.run(jaxpr, constants, inputs, outer)
        return ProtoBody(name, tuple(inputs), tuple(scope.nodes), tuple(outputs))


class _Scope:
    """One straight list of nodes: a body with the calls that were inlined into it."""

    def __init__(self, builder: _Builder, outer: Any, backward: bool) -> None:
        self.builder = builder
        self.unifier = builder.unifier
        self.nodes: list[ProtoNode] = []
        self.outer_source = user_source(outer)
        self.backward = backward

    def constant(self, aval: Any, value: Any) -> ProtoValue:
        """An array closed over by the step, kept as a node of its own."""
        result = ProtoValue(tuple(self.unifier.fresh(size) for size in aval.shape), str(aval.dtype))
        origin = Origin(None, {"value": value})
        self.nodes.append(ProtoNode("constant", "", (), (result,), {}, (), False, None, origin))
        return result

    def run(
        self, jaxpr: Any, constants: Sequence[ProtoOperand], inputs: Sequence[ProtoOperand], outer: Any
    ) -> list[ProtoOperand]:
        environment: dict[Any, ProtoOperand] = dict(
            zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True)
        )

        def read(atom: Any) -> ProtoOperand:
            return _literal(atom) if isinstance(atom, Literal) else environment[atom]

        for equation in jaxpr.eqns:
            results = self.equation(equation, [read(atom) for atom in equation.invars], outer)
            environment.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation: Any, operands: list[ProtoOperand], outer: Any) -> Sequence[ProtoOperand]:
        info = joined_source_info(outer, equation.source_info)
        source = user_source(equation.source_info) or user_source(outer) or self.outer_source
        inlined = control.inlined_jaxpr(equation)
        if inlined is not None:
            constants = [
                self.constant(var.aval, value)
                for var, value in zip(inlined.jaxpr.constvars, inlined.consts, strict=True)
            ]
            around, self.outer_source = self.outer_source, source
            results = self.run(inlined.jaxpr, constants, operands, info)
            self.outer_source = around
            return results
        backward = self.backward or BACKWARD_MARK in str(info.name_stack)
        name = equation.primitive.name
        if name in control.STRUCTURED:
            return self.structured(equation, operands, info, backward, source)
        request = Equation(
            name,
            equation.params,
            tuple(operand.dims if isinstance(operand, ProtoValue) else () for operand in operands),
            tuple(tuple(getattr(atom.aval, "shape", ())) for atom in equation.invars),
            tuple(tuple(getattr(var.aval, "shape", ())) for var in equation.outvars),
            self.unifier,
        )
        draft = RULES.get(name, opaque)(request)
        if draft.kind == "identity":
            return operands
        outputs = tuple(
            ProtoValue(dims, str(getattr(var.aval, "dtype", "token")))
            for dims, var in zip(draft.out_dims, equation.outvars, strict=True)
        )
        self.add(draft, operands, outputs, (), backward, source, equation, info)
        return outputs

    def structured(
        self, equation: Any, operands: list[ProtoOperand], info: Any, backward: bool, source: Source | None
    ) -> Sequence[ProtoOperand]:
        """Loops, branches and calls: the rule in `ir.control` says how operands reach the bodies."""

        def make_body(closed: ClosedJaxpr | Any, inputs: Sequence[ProtoValue], label: str) -> ProtoBody:
            jaxpr, consts = (closed.jaxpr, closed.consts) if hasattr(closed, "jaxpr") else (closed, ())
            return self.builder.body(jaxpr, consts, inputs, label, info, backward)

        request = control.Request(
            equation.primitive.name, equation.params, operands, equation.outvars, self.unifier, make_body
        )
        draft = control.STRUCTURED[equation.primitive.name](request)
        self.add(draft.draft, draft.operands, draft.outputs, draft.bodies, backward, source, equation, info)
        return draft.outputs

    def add(
        self,
        draft: Draft,
        operands: Sequence[ProtoOperand],
        outputs: Sequence[ProtoValue],
        bodies: Sequence[ProtoBody],
        backward: bool,
        source: Source | None,
        equation: Any,
        info: Any,
    ) -> None:
        origin = Origin(equation.primitive, equation.params, equation.ctx, info)
        self.nodes.append(
            ProtoNode(
                draft.kind,
                draft.fn,
                tuple(operands),
                tuple(outputs),
                draft.attrs,
                tuple(bodies),
                backward,
                source,
                origin,
            )
        )


def _literal(atom: Any) -> Constant:
    dtype = str(atom.aval.dtype)
    return Constant(_shortest(atom.val, dtype), TensorType(dtype), atom.val)


def _shortest(value: Any, dtype: str) -> str:
    """The shortest text that reads back as the same number in its dtype (JAX's own scalars print more than that)."""
    scalar = value.item() if hasattr(value, "item") else value
    if isinstance(scalar, float):
        return str(np.dtype(dtype).type(scalar)) if dtype in ("float16", "float32") else repr(float(scalar))
    if isinstance(scalar, int) and not isinstance(scalar, bool):
        return repr(int(scalar))
    return repr(complex(scalar)) if isinstance(scalar, complex) else repr(scalar)
