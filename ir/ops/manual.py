"""manual: the body of a `shard_map`, which each device runs on its part. Sizes inside are those of the part."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from ir import errors
from ir.graph import Node
from ir.jax_api import jnp
from ir.ops.op import Names, Op, all_names, params_of
from ir.ops.rule import OP, Broken, Expected, Hole, Slot, must, same, words
from ir.types import Dim, TensorType


class Manual(Op):
    """A dim that the mesh cuts is a shorter one inside; passes bring the operands replicated."""

    kind = "manual"
    attributes = frozenset(("mesh",))
    sealed = True

    def results(self, node: Node) -> Sequence[Expected]:
        words(node, "mesh")
        must(len(node.bodies) == 1, OP, errors.bodies_do_not_fit("a shard_map has one body"))
        (body,) = node.bodies
        must(len(body.inputs) == len(node.inputs), OP, errors.bodies_do_not_fit("it has an input for each operand"))
        for operand, value in zip(node.inputs, body.inputs, strict=True):
            if not _is_part(value.type, operand.type):
                raise Broken(OP, errors.body_type(body.name, str(value.type), str(operand.type)))
        expected: list[Expected] = []
        for i, result in enumerate(body.outputs):
            out = node.outputs[i].type.dims if i < len(node.outputs) else ()
            expected.append(Expected((result.type.dtype,), _joined(result.type.dims, out)))
        return expected

    def is_whole(self, node: Node) -> bool:
        return True

    def blocked(self, node: Node) -> Names:
        return all_names(node)

    def sealed_shadow(self, node: Node, arrays: Sequence[Any], run: Callable[..., Any]) -> Sequence[Any]:
        """The body in the ring, on the mesh that the user says."""
        params = params_of(node)

        def body(*parts: Any) -> tuple[Any, ...]:
            return tuple(run(node.bodies[0], parts))

        mapped: Any = jax.shard_map(
            body,
            mesh=params["mesh"],
            in_specs=tuple(params["in_specs"]),
            out_specs=tuple(params["out_specs"]),
            axis_names=_manual_axes(params),
            check_vma=False,
        )
        return mapped(*arrays)

    def sealed_alone(self, node: Node, arrays: Sequence[Any], run: Callable[..., Any]) -> Sequence[Any]:
        """All devices of the mesh beside one another: a `vmap` for each of its axes."""
        params = params_of(node)
        sizes = {axis: size for axis, size in params["mesh"].shape.items() if axis in _manual_axes(params)}
        axes = list(sizes)
        taken = [_axes_of(spec, array.ndim) for spec, array in zip(params["in_specs"], arrays, strict=True)]

        def body(*parts: Any) -> tuple[Any, ...]:
            return tuple(run(node.bodies[0], parts))

        function: Callable[..., Any] = body
        for axis in reversed(axes):
            places = tuple([0 if any(axis in dim for dim in dims) else None for dims in taken])
            function = jax.vmap(function, in_axes=places, axis_name=axis, axis_size=sizes[axis])
        parts = [_cut(array, dims, sizes) for array, dims in zip(arrays, taken, strict=True)]
        results = function(*parts)
        given = zip(results, params["out_specs"], strict=True)
        return [_glued(each, _axes_of(spec, each.ndim - len(axes)), axes) for each, spec in given]


def _is_part(inside: TensorType, outside: TensorType) -> bool:
    return (
        inside.dtype == outside.dtype
        and len(inside.dims) == len(outside.dims)
        and all(
            same(a, b) or (0 < a.size < b.size and b.size % a.size == 0)
            for a, b in zip(inside.dims, outside.dims, strict=True)
        )
    )


def _joined(inside: Sequence[Dim], outside: Sequence[Dim]) -> tuple[Slot, ...]:
    """What the parts of the devices make: the dim itself, or one that is a whole number of times as long."""
    if len(inside) != len(outside):
        return tuple(inside)
    pairs = zip(inside, outside, strict=True)
    return tuple([Hole(b.size) if a.size and b.size > a.size and b.size % a.size == 0 else a for a, b in pairs])


def _manual_axes(params: Mapping[str, Any]) -> set[str]:
    """The mesh axes that the body knows by name: `manual_axes`, in JAX before 0.7; none given are all."""
    named = params.get("newly_manual_axes") or params.get("manual_axes") or params["mesh"].axis_names
    return set(named)


def _axes_of(spec: Any, rank: int) -> list[tuple[str, ...]]:
    """The mesh axes of each dim."""
    entries = [*spec, *[None] * (rank - len(spec))]
    return [() if each is None else (each,) if isinstance(each, str) else tuple(each) for each in entries]


def _cut(array: Any, dims: Sequence[tuple[str, ...]], sizes: Mapping[str, int]) -> Any:
    """The shards of an array along dims in front, one for each of the mesh axes that cut it, in the mesh's order."""
    shape: list[int] = []
    at: dict[str, int] = {}
    kept: list[int] = []
    for size, axes in zip(array.shape, dims, strict=True):
        for axis in axes:
            at[axis] = len(shape)
            shape.append(sizes[axis])
            size //= sizes[axis]
        kept.append(len(shape))
        shape.append(size)
    lead = [at[axis] for axis in sizes if axis in at]
    return jnp.transpose(array.reshape(shape), (*lead, *kept))


def _glued(array: Any, dims: Sequence[tuple[str, ...]], axes: Sequence[str]) -> Any:
    """The inverse: results of all devices, of which those along an axis that cuts nothing are the same."""
    used = {axis for each in dims for axis in each}
    array = array[tuple([slice(None) if axis in used else 0 for axis in axes])]
    lead = {axis: place for place, axis in enumerate([axis for axis in axes if axis in used])}
    order: list[int] = []
    shape: list[int] = []
    for position, each in enumerate(dims):
        order += [*[lead[axis] for axis in each], len(lead) + position]
        size = array.shape[len(lead) + position]
        for axis in each:
            size *= array.shape[lead[axis]]
        shape.append(size)
    return jnp.transpose(array, order).reshape(shape)
