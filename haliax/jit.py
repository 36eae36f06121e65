"""`named_jit`: `jax.jit` for functions of any trees, with layouts by name.

Arguments are flattened once, to a list of arrays and one static value that holds all the rest: the structure, the
leaves that are not arrays, and the axis mapping in force. The result carries its own leaves that are not arrays as
structure. So JAX's cache alone decides what is compiled anew, and there is none beside it that could go stale.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

import jax
import numpy as np

from haliax import errors
from haliax.jax_utils import broadcast_prefix, is_jax_array_like
from haliax.layout import ResourceMapping, axis_mapping, current_thread_local_mapping, shard

_FAST_ARRAY_TYPES = frozenset({type(jax.numpy.zeros(())), np.ndarray})


@jax.tree_util.register_pytree_node_class
class _Result:
    """A tree as its arrays (the children) and all the rest (the structure)."""

    def __init__(self, arrays: Any, rest: Any):
        self.arrays, self.rest = arrays, rest

    @classmethod
    def of(cls, tree: Any) -> _Result:
        leaves, structure = jax.tree.flatten(tree)
        arrays = [leaf for leaf in leaves if _is_array(leaf)]
        return cls(arrays, (structure, tuple(_ARRAY if _is_array(leaf) else leaf for leaf in leaves)))

    def tree(self) -> Any:
        structure, places = self.rest
        return jax.tree.unflatten(structure, _filled(places, iter(self.arrays)))

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        return tuple(self.arrays), self.rest

    @classmethod
    def tree_unflatten(cls, rest: Any, arrays: Any) -> _Result:
        return cls(arrays, rest)


class _Place:
    """Stands for an array among the leaves of a structure."""


_ARRAY = _Place()


def _filled(places: tuple[Any, ...], arrays: Any) -> list[Any]:
    return [next(arrays) if place is _ARRAY else place for place in places]


def _is_array(leaf: Any) -> bool:
    return type(leaf) in _FAST_ARRAY_TYPES or is_jax_array_like(leaf)


def _key(mapping: ResourceMapping | None) -> Any:
    """The mapping as a hashable value."""
    if mapping is None:
        return None
    return tuple((name, axis if isinstance(axis, str) else tuple(axis)) for name, axis in mapping.items())


class NamedJit:
    """A function compiled by `named_jit`: called like the function itself."""

    def __init__(
        self,
        fn: Callable[..., Any],
        in_axis_resources: ResourceMapping | None,
        compute_resources: ResourceMapping | None,
        out_axis_resources: ResourceMapping | None,
        donated: tuple[Any, Any],
        options: dict[str, Any],
    ):
        update_wrapper(self, fn)
        self._fn = fn
        self._in, self._compute, self._out = in_axis_resources, compute_resources, out_axis_resources
        self._donated = donated
        self._jitted = jax.jit(self._run, static_argnums=0, donate_argnums=1, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._jitted(*self._flat(args, kwargs)).tree()

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """The function lowered for these arguments, as by `jax.jit(...).lower`."""
        return self._jitted.lower(*self._flat(args, kwargs))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else partial(self, instance)

    def _flat(self, args: Any, kwargs: Any) -> tuple[Any, list[Any], list[Any]]:
        leaves, structure = jax.tree.flatten((args, kwargs))
        places: tuple[Any, ...] | None = None
        arrays = leaves
        for leaf in leaves:
            if type(leaf) not in _FAST_ARRAY_TYPES:
                places = tuple([_ARRAY if _is_array(leaf) else leaf for leaf in leaves])
                arrays = [leaf for leaf, place in zip(leaves, places, strict=True) if place is _ARRAY]
                break
        mask, donated, kept = None, [], arrays
        if self._donated != (None, None):
            mask = self._mask(args, kwargs, leaves)
            donated = [array for array, gone in zip(arrays, mask, strict=True) if gone]
            kept = [array for array, gone in zip(arrays, mask, strict=True) if not gone]
        return (structure, places, mask, _key(current_thread_local_mapping())), donated, kept

    def _mask(self, args: Any, kwargs: Any, leaves: list[Any]) -> tuple[bool, ...]:
        """For each array whether it is donated."""
        for_args, for_kwargs = self._donated
        given = tuple(for_args or ())[: len(args)]
        named_choices = {name: (for_kwargs or {}).get(name, False) for name in kwargs}
        choices = ((*given, *[False] * (len(args) - len(given))), named_choices)
        flat = jax.tree.leaves(broadcast_prefix(choices, (args, kwargs)))
        return tuple(bool(choice) for choice, leaf in zip(flat, leaves, strict=True) if _is_array(leaf))

    def _run(self, static: Any, donated: list[Any], kept: list[Any]) -> _Result:
        """What JAX traces: puts the arguments together, and lays out what goes in and comes out."""
        structure, places, mask, _ = static
        arrays = kept
        if mask is not None:
            gone, stays = iter(donated), iter(kept)
            arrays = [next(gone) if is_gone else next(stays) for is_gone in mask]
        args, kwargs = jax.tree.unflatten(structure, arrays if places is None else _filled(places, iter(arrays)))
        if self._in is not None:
            args, kwargs = shard((args, kwargs), self._in)
        if self._compute is None:
            result = self._fn(*args, **kwargs)
        else:
            with axis_mapping(self._compute):
                result = self._fn(*args, **kwargs)
        return _Result.of(result if self._out is None else shard(result, self._out))


def named_jit(
    fn: Callable[..., Any] | None = None,
    axis_resources: ResourceMapping | None = None,
    *,
    in_axis_resources: ResourceMapping | None = None,
    out_axis_resources: ResourceMapping | None = None,
    donate_args: Any = None,
    donate_kwargs: Any = None,
    **options: Any,
) -> Any:
    """`jax.jit` for functions of any trees: leaves that are not arrays are static, and layouts are by name.

    Usable as a decorator, with or without arguments.

    Args:
        fn: the function.
        axis_resources: the axis mapping in force inside; also for what goes in and comes out, unless these are given.
        in_axis_resources: the mapping that NamedArrays among the arguments are laid out by.
        out_axis_resources: the mapping that NamedArrays of the result are laid out by.
        donate_args: for each positional argument a boolean, or a tree of these: whether its memory may be reused.
        donate_kwargs: the same for keyword arguments, by name.
        options: passed on to `jax.jit`.
    """
    if fn is None:
        return partial(
            named_jit,
            axis_resources=axis_resources,
            in_axis_resources=in_axis_resources,
            out_axis_resources=out_axis_resources,
            donate_args=donate_args,
            donate_kwargs=donate_kwargs,
            **options,
        )
    inward = axis_resources if in_axis_resources is None else in_axis_resources
    outward = axis_resources if out_axis_resources is None else out_axis_resources
    return NamedJit(fn, inward, axis_resources, outward, (donate_args, donate_kwargs), options)


def fsdp(
    fn: Callable[..., Any] | ResourceMapping | None = None,
    parameter_mapping: ResourceMapping | None = None,
    compute_mapping: ResourceMapping | None = None,
) -> Any:
    """`named_jit` for fully sharded data parallelism: what goes in and out is laid out by `parameter_mapping`, and
    `compute_mapping` is in force inside. Usable as `fsdp(fn, parameters, compute)` or `@fsdp(parameters, compute)`.

    Raises:
        AxisError: if a mapping is missing.
    """
    if fn is not None and not callable(fn):
        return lambda function: fsdp(function, fn, parameter_mapping if compute_mapping is None else compute_mapping)
    if parameter_mapping is None or compute_mapping is None:
        raise errors.no_mapping("fsdp")
    if fn is None:
        return lambda function: fsdp(function, parameter_mapping, compute_mapping)
    return named_jit(
        fn,
        axis_resources=compute_mapping,
        in_axis_resources=parameter_mapping,
        out_axis_resources=parameter_mapping,
    )
