"""Attention as primitives of JAX: one equation in a trace, whose implementation is chosen when it is compiled.

    attention_p            query, key, value, masks                             → result, log-sum-exp of each row
    attention_tangent_p    the same, both results, tangents of the first three  → tangent of the result
    attention_backward_p   the same, both results, cotangent of the result      → cotangents of the first three

The derivative of `attention_p` is `attention_tangent_p`, which is linear in the tangents; its transpose is
`attention_backward_p`. Neither keeps the scores: what they need of them is computed again. Derivatives of those two are
of the formula itself, as is forward mode: they do make the array of all scores.

A program that is only run, by `jax.jit` or not, and one that is planned see the same three.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from haliax.core.merged import Target, composite, devices_of
from haliax.nn.attention import reference
from haliax.nn.attention.backends import chosen
from haliax.nn.attention.spec import Spec

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

attention_p = Primitive("attention")
attention_tangent_p = Primitive("attention_tangent")
attention_backward_p = Primitive("attention_backward")
_MEMBERS = {attention_p: "", attention_tangent_p: "tangent", attention_backward_p: "backward"}


def attention(spec: Spec, *arrays: Any) -> tuple[Any, Any]:
    """The result, with the labels `spec.result`, and the log-sum-exp of each row of scores, with `spec.rows`.

    Args:
        spec: the attention.
        arrays: query, key, value and the arrays of the mask, with the labels `spec.operands`.
    """
    return tuple(attention_p.bind(*arrays, spec=spec))  # type: ignore[return-value]


# --- types ------------------------------------------------------------------------------------------------------------


def _results(*avals: Any, spec: Spec) -> list[Any]:
    sizes = spec.sizes(avals)
    query, key, value = (aval.dtype for aval in avals[:3])
    scores = jnp.promote_types(jnp.promote_types(query, key), jnp.float32)
    found = ((spec.result, jnp.promote_types(query, value)), (spec.rows, scores))
    return [ShapedArray(tuple([sizes[label] for label in labels]), dtype) for labels, dtype in found]


def _same_as(avals: Sequence[Any]) -> list[Any]:
    return [ShapedArray(aval.shape, aval.dtype) for aval in avals]


attention_p.def_abstract_eval(_results)
attention_tangent_p.def_abstract_eval(lambda *avals, spec: _same_as([avals[len(spec.operands)]]))
attention_backward_p.def_abstract_eval(lambda *avals, spec: _same_as(avals[:3]))


# --- derivatives ------------------------------------------------------------------------------------------------------


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, spec: Spec) -> tuple[Any, Any]:
    result, lse = attention_p.bind(*primals, spec=spec)
    moved = [ad.instantiate_zeros(tangent) for tangent in tangents[:3]]
    (tangent,) = attention_tangent_p.bind(*primals, result, lse, *moved, spec=spec)
    # Nobody but the two other primitives reads the log-sum-exp, and they account for how it depends on the operands.
    return [result, lse], [tangent, ad.Zero(jax.typeof(lse).to_tangent_aval())]


def _transpose(cotangents: Sequence[Any], *arrays: Any, spec: Spec) -> list[Any]:
    known, moved = arrays[:-3], arrays[-3:]
    if isinstance(cotangents[0], ad.Zero):
        return [None] * len(arrays)
    back = attention_backward_p.bind(*known, cotangents[0], spec=spec)
    asked = [each if ad.is_undefined_primal(tangent) else None for each, tangent in zip(back, moved, strict=True)]
    return [*[None] * len(known), *asked]


def _jvp_of(definition: Callable[..., Any]) -> Callable[..., Any]:
    """The derivative of a primitive as that of the formula that defines it."""

    def rule(primals: Sequence[Any], tangents: Sequence[Any], *, spec: Spec) -> tuple[Any, Any]:
        exact = [jnp.issubdtype(jnp.asarray(x).dtype, jnp.inexact) for x in primals]
        varied = [x for x, moves in zip(primals, exact, strict=True) if moves]
        moved = [ad.instantiate_zeros(t) for t, moves in zip(tangents, exact, strict=True) if moves]

        def function(*some: Any) -> Any:
            rest = iter(some)
            return definition(spec, *[next(rest) if moves else x for x, moves in zip(primals, exact, strict=True)])

        return jax.jvp(function, varied, moved)

    return rule


ad.primitive_jvps[attention_p] = _jvp
ad.primitive_jvps[attention_tangent_p] = _jvp_of(reference.tangent)
ad.primitive_jvps[attention_backward_p] = _jvp_of(reference.backward)
ad.primitive_transposes[attention_tangent_p] = _transpose


# --- batches ----------------------------------------------------------------------------------------------------------


def _batched(primitive: Primitive, args: Sequence[Any], dims: Sequence[Any], *, spec: Spec) -> tuple[Any, Any]:
    """One label more. The query needs it whoever has it; a derivative by an operand that lacks it has it too, so there
    all operands get it."""
    size = next(x.shape[dim] for x, dim in zip(args, dims, strict=True) if dim is not None)
    new = max(label for labels in (*spec.operands, spec.result) for label in labels) + 1
    given = len(spec.operands)
    everywhere = primitive is not attention_p
    arrays, places = list(args), list(dims)
    for i in range(len(arrays)):
        of_mask = 3 <= i < given
        if places[i] is None and not of_mask and (i == 0 or everywhere):
            arrays[i], places[i] = jnp.broadcast_to(arrays[i], (size, *arrays[i].shape)), 0
        elif places[i] is not None and i >= given:
            arrays[i], places[i] = jnp.moveaxis(arrays[i], places[i], 0), 0
    operands = [
        labels if place is None else (*labels[:place], new, *labels[place:])
        for labels, place in zip(spec.operands, places, strict=False)
    ]
    wider = replace(spec, operands=tuple(operands), result=(new, *spec.result))
    member = _MEMBERS[primitive]
    for i, labels in enumerate(wider.operands_of(member)[given:], given):
        arrays[i] = jnp.moveaxis(arrays[i], 0, labels.index(new))
    results = primitive.bind(*arrays, spec=wider)
    return results, [labels.index(new) for labels in wider.results_of(member)]


# --- implementations --------------------------------------------------------------------------------------------------


def _implementation(which: str, target: Target, spec: Spec) -> Callable[..., Any]:
    """The function that a primitive is."""

    def function(*arrays: Any) -> Any:
        backend = chosen(spec, arrays[: len(spec.operands)], target.platform, target.devices)
        return getattr(backend, which)(spec, *arrays)

    return function


def _lowered(platform: str, which: str) -> Callable[..., Any]:
    def rule(context: Any, *operands: Any, spec: Spec) -> Any:
        function = _implementation(which, Target(platform, devices_of(context)), spec)
        return mlir.lower_fun(function, multiple_results=True)(context, *operands)

    return rule


@lru_cache(maxsize=1024)
def _compiled(primitive: Primitive, spec: Spec) -> Callable[..., Any]:
    return jax.jit(partial(primitive.bind, spec=spec))


def _register(primitive: Primitive, which: str) -> None:
    primitive.multiple_results = True
    primitive.def_impl(lambda *arrays, spec: _compiled(primitive, spec)(*arrays))
    batching.primitive_batchers[primitive] = partial(_batched, primitive)
    composite(primitive, lambda target, spec: _implementation(which, target, spec))
    for platform in PLATFORMS:
        mlir.register_lowering(primitive, _lowered(platform, which), platform=platform)


_register(attention_p, "attention")
_register(attention_tangent_p, "tangent")
_register(attention_backward_p, "backward")
