"""The walk over a jaxpr: each equation becomes a draft node, and the rules say which of its dims are the same.

Calls that only group equations (`jit`, custom derivatives, which have done their work by then) are inlined; loops,
branches and `checkpoint` keep their bodies. A deep model has tens of thousands of equations and few different lines,
name stacks and numbers among them, so what is read off those is kept.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from haliax.core.staging import MARKS
from ir import errors
from ir._compat import is_library, user_source
from ir.graph import Constant, Origin, Source
from ir.limits import DEEPEST
from ir.literals import literal_of
from ir.staging import control
from ir.staging.phases import BACKWARD_MARK
from ir.staging.primitives import RULES, Equation, opaque
from ir.staging.proto import ProtoBody, ProtoNode, ProtoOperand, ProtoValue, rename_node
from ir.staging.unify import DimClass, Unifier

_UNREAD = object()


class Walk:
    """Makes draft bodies; what its scopes share."""

    def __init__(self, unifier: Unifier) -> None:
        self.unifier = unifier
        self.depth = 0
        self.marked = False
        self._dtypes: dict[Any, str] = {}
        self._sources: dict[Any, Any] = {}
        self._backward: dict[int, tuple[Any, bool]] = {}
        self._literals: dict[Any, Constant] = {}

    def named_value(self, aval: Any, names: Sequence[str | None]) -> ProtoValue:
        dims = self.unifier.argument(aval.shape, names)
        self.unifier.together(dims)
        return ProtoValue(dims, self.dtype_of(aval))

    def suggest(self, value: ProtoValue, names: Sequence[str | None]) -> None:
        """Names a result's dims after the NamedArray that it is in."""
        for dim, name in zip(value.dims, names, strict=True):
            self.unifier.call(dim, name)

    def body(
        self,
        jaxpr: Any,
        consts: Sequence[Any],
        inputs: Sequence[ProtoValue],
        name: str,
        caller: Any = None,
        backward: bool = False,
        source: Source | None = None,
    ) -> ProtoBody:
        """The draft of a jaxpr whose inputs have the given dims. `caller` is the source info of the equation it belongs
        to, `source` its line."""
        if self.depth > DEEPEST:
            raise errors.step_too_deep(DEEPEST, source)
        self.depth += 1
        scope = _Scope(self, source, backward)
        constants = [scope.constant(var.aval, value) for var, value in zip(jaxpr.constvars, consts, strict=True)]
        outputs = scope.run(jaxpr, constants, inputs, caller)
        self.depth -= 1
        return ProtoBody(name, tuple(inputs), tuple(scope.nodes), tuple(outputs))

    def dtype_of(self, aval: Any) -> str:
        dtype = getattr(aval, "dtype", "token")
        known = self._dtypes.get(dtype)
        if known is None:
            known = self._dtypes[dtype] = str(dtype)
        return known

    def source_of(self, info: Any) -> Source | None:
        """The user's line; JAX's tracebacks are equal where they are of the same lines."""
        traceback = info.traceback
        known = self._sources.get(traceback, _UNREAD)
        if known is _UNREAD:
            known = self._sources[traceback] = user_source(info)
        return known

    def is_backward(self, info: Any) -> bool:
        stack = info.name_stack
        known = self._backward.get(id(stack))  # to hash a stack takes long, and equations share theirs
        if known is None:
            known = self._backward[id(stack)] = stack, BACKWARD_MARK in str(stack)
        return known[1]

    def literal(self, atom: Any) -> Constant:
        value, dtype = atom.val, self.dtype_of(atom.aval)
        key = dtype, value.__class__, getattr(value, "weak_type", None), np.asarray(value).tobytes()
        known = self._literals.get(key)
        if known is None:
            known = self._literals[key] = literal_of(value, dtype)
        return known


class _Scope:
    """One straight list of nodes: a body with the calls that were inlined into it."""

    def __init__(self, walk: Walk, source: Source | None, backward: bool) -> None:
        self.walk = walk
        self.unifier = walk.unifier
        self.nodes: list[ProtoNode] = []
        self.outer_source = source
        self.backward = backward
        self._renamed: dict[tuple[ProtoValue, tuple[DimClass, ...], bool], ProtoValue] = {}

    def constant(self, aval: Any, value: Any) -> ProtoValue:
        """An array closed over by the step, kept as a node of its own."""
        dims = tuple([self.unifier.made(size, "constant") for size in aval.shape])
        self.unifier.together(dims)
        result = ProtoValue(dims, self.walk.dtype_of(aval))
        origin = Origin(None, {"value": value})
        self.nodes.append(ProtoNode("constant", "", (), (result,), {}, (), False, None, origin))
        return result

    def run(
        self, jaxpr: Any, constants: Sequence[ProtoOperand], inputs: Sequence[ProtoOperand], caller: Any
    ) -> list[ProtoOperand]:
        """Adds the equations of a jaxpr. `caller` is the source info of the equation it belongs to."""
        environment: dict[Any, ProtoOperand] = dict(
            zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True)
        )
        literal = self.walk.literal
        for equation in jaxpr.eqns:
            operands = [literal(atom) if isinstance(atom, Literal) else environment[atom] for atom in equation.invars]
            environment.update(zip(equation.outvars, self.equation(equation, operands, caller), strict=True))
        return [literal(atom) if isinstance(atom, Literal) else environment[atom] for atom in jaxpr.outvars]

    def equation(self, equation: Any, operands: list[ProtoOperand], caller: Any) -> Sequence[ProtoOperand]:
        walk, info, primitive = self.walk, equation.source_info, equation.primitive
        source = self.source(info)
        name = primitive.name
        rule = RULES.get(name)
        if rule is None and (inlined := control.inlined_jaxpr(equation)) is not None:
            constants = [
                self.constant(var.aval, value)
                for var, value in zip(inlined.jaxpr.constvars, inlined.consts, strict=True)
            ]
            around, self.outer_source = self.outer_source, source
            joined = Origin(primitive, equation.params, None, info, caller).source_info
            results = self.run(inlined.jaxpr, constants, operands, joined)
            self.outer_source = around
            return results
        backward = self.backward or walk.is_backward(info) or (caller is not None and walk.is_backward(caller))
        walk.marked = walk.marked or primitive in MARKS
        origin = Origin(primitive, equation.params, equation.ctx, info, caller)
        if rule is None and name in control.STRUCTURED:
            return self.structured(equation, operands, backward, source, origin)
        avals = [var.aval for var in equation.outvars]
        request = Equation(
            name,
            equation.params,
            tuple([each.dims if isinstance(each, ProtoValue) else () for each in operands]),
            tuple([getattr(atom.aval, "shape", ()) for atom in equation.invars]),
            tuple([getattr(aval, "shape", ()) for aval in avals]),
            self.unifier,
        )
        draft = (rule or opaque)(request)
        if not draft.kind:
            return operands
        results = zip(draft.out_dims, avals, strict=True)
        outputs = tuple([ProtoValue(dims, walk.dtype_of(aval)) for dims, aval in results])
        for dims in draft.out_dims:
            self.unifier.together(dims)
        for i, dims in draft.renamed.items():
            operands[i] = self.renamed(operands[i], dims, backward, source, info)
        self.nodes.append(
            ProtoNode(draft.kind, draft.fn, tuple(operands), outputs, draft.attrs, (), backward, source, origin)
        )
        return outputs

    def source(self, info: Any) -> Source | None:
        """The user's line of an equation; where JAX traced a library's function before and kept that, the line of the
        call around it."""
        source, outer = self.walk.source_of(info), self.outer_source
        if source is None or outer is None or not is_library(source):
            return source or outer
        return replace(outer, within=outer.within or source)

    def renamed(
        self, operand: ProtoOperand, dims: Sequence[DimClass], backward: bool, source: Source | None, info: Any
    ) -> ProtoOperand:
        """The operand with other occurrences of its axes, as a node of its own; the same one for the same operand."""
        if not isinstance(operand, ProtoValue):
            return operand
        key = operand, tuple(dims), backward
        known = self._renamed.get(key)
        if known is None:
            node = rename_node(operand, dims, backward, source, info)
            self.nodes.append(node)
            known = self._renamed[key] = node.outputs[0]
            self.unifier.together(known.dims)
        return known

    def structured(
        self, equation: Any, operands: list[ProtoOperand], backward: bool, source: Source | None, origin: Origin
    ) -> Sequence[ProtoOperand]:
        """Loops, branches and calls: the rule in `ir.staging.control` says how operands reach the bodies."""

        def make_body(closed: ClosedJaxpr | Any, inputs: Sequence[ProtoValue], label: str) -> ProtoBody:
            jaxpr, consts = (closed.jaxpr, closed.consts) if hasattr(closed, "jaxpr") else (closed, ())
            return self.walk.body(jaxpr, consts, inputs, label, origin.source_info, backward, source)

        def rename(operand: ProtoValue, dims: Sequence[DimClass]) -> ProtoNode:
            return rename_node(operand, dims, backward, source, origin.source_info)

        request = control.Request(
            equation.primitive.name, equation.params, operands, equation.outvars, self.unifier, make_body, rename
        )
        answer = control.STRUCTURED[equation.primitive.name](request)
        for value in answer.outputs:
            self.unifier.together(value.dims)
        draft, inputs = answer.draft, tuple(answer.operands)
        self.nodes.append(
            ProtoNode(
                draft.kind, draft.fn, inputs, answer.outputs, draft.attrs, answer.bodies, backward, source, origin
            )
        )
        return answer.outputs
