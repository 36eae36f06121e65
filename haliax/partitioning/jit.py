"""`named_jit`: `jax.jit` for functions of any trees, with layouts by name.

Leaves of the arguments that are not arrays are part of what is compiled for, and so is the axis mapping in force: both
are in the key of JAX's own cache. There is none beside it that could go stale.

There are two ways in. While every call had arrays only, trees go to JAX as they are, which is fastest. For other calls
they are flattened here, to a list of arrays and one static value that holds all the rest. The result carries its own
leaves that are not arrays as structure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

import jax
import numpy as np

from haliax import errors
from haliax._compat import ConcreteArray
from haliax.jax_utils import broadcast_prefix, is_jax_array_like
from haliax.partitioning.layout import axis_names, laid_out
from haliax.partitioning.mapping import (
    ResourceMapping,
    axis_mapping,
    in_force,
    is_cached_under_own_key,
    mesh_in_force,
    note_names,
    own_cache_key,
    warn_of_misspelt,
)

P = ParamSpec("P")
Rest = ParamSpec("Rest")
R = TypeVar("R")

_FAST_ARRAY_TYPES = frozenset({ConcreteArray, np.ndarray})

_INSTEAD = {
    "static_argnums": "leaves that are not arrays are static already",
    "static_argnames": "leaves that are not arrays are static already",
    "donate_argnums": "give donate_args",
    "donate_argnames": "give donate_kwargs",
}


@jax.tree_util.register_pytree_node_class
class _Result:
    """A tree as its arrays (the children) and all the rest (the structure)."""

    def __init__(self, arrays: Any, rest: Any):
        self.arrays, self.rest = arrays, rest

    def tree(self) -> Any:
        structure, places = self.rest
        return jax.tree.unflatten(structure, _filled(places, self.arrays))

    def tree_flatten(self) -> tuple[Any, Any]:
        return self.arrays, self.rest

    @classmethod
    def tree_unflatten(cls, rest: Any, arrays: Any) -> _Result:
        return cls(arrays, rest)


class _Place:
    """Stands for an array among the leaves of a structure."""


_ARRAY = _Place()


class _MaybeStatic(Exception):
    """Raised while tracing: an argument may have been a Python number, which has to be static."""


def _filled(places: tuple[Any, ...], arrays: Iterable[Any]) -> list[Any]:
    rest = iter(arrays)
    return [next(rest) if place is _ARRAY else place for place in places]


def _is_array(leaf: Any) -> bool:
    return type(leaf) in _FAST_ARRAY_TYPES or is_jax_array_like(leaf)


def _places(leaves: Sequence[Any]) -> tuple[Any, ...] | None:
    """The leaves with `_ARRAY` for each array; None if there are only arrays."""
    if all(_is_array(leaf) for leaf in leaves):
        return None
    return tuple([_ARRAY if _is_array(leaf) else leaf for leaf in leaves])


def _wrapped(tree: Any) -> Any:
    """The tree itself, or if it has leaves that are not arrays, a `_Result`."""
    leaves, structure = jax.tree.flatten(tree)
    places = _places(leaves)
    if places is None:
        return tree
    arrays = [leaf for leaf, place in zip(leaves, places, strict=True) if place is _ARRAY]
    return _Result(arrays, (structure, places))


class NamedJit(Generic[P, R]):
    """A function compiled by `named_jit`: called like the function itself."""

    def __init__(
        self,
        fn: Callable[P, R],
        mappings: tuple[ResourceMapping | None, ResourceMapping | None, ResourceMapping | None],
        donated: tuple[Any, Any],
        options: dict[str, Any],
    ):
        update_wrapper(self, fn)
        self._fn: Callable[..., R] = fn
        self._in, self._compute, self._out = mappings
        self._donated = donated
        self._only_arrays = donated == (None, None)
        self._of_arrays = jax.jit(self._run_of_arrays, **options)
        self._of_leaves = jax.jit(self._run_of_leaves, static_argnums=0, donate_argnums=1, **options)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function gives for these arguments."""
        if not is_cached_under_own_key():
            with own_cache_key():
                return self(*args, **kwargs)
        if self._only_arrays:
            try:
                result = self._of_arrays(*args, **kwargs)
                return result.tree() if type(result) is _Result else result
            except (_MaybeStatic, TypeError, OverflowError) as error:
                if type(error) is not _MaybeStatic and _places(jax.tree.leaves((args, kwargs))) is None:
                    raise
            self._only_arrays = False
        result = self._of_leaves(*self._flat(args, kwargs))
        return result.tree() if type(result) is _Result else result

    def lower(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The function lowered for these arguments, as by `jax.jit(...).lower`."""
        with own_cache_key():
            return self._of_leaves.lower(*self._flat(args, kwargs))

    @overload
    def __get__(self, instance: None, owner: Any = None) -> NamedJit[P, R]: ...
    @overload
    def __get__(
        self: NamedJit[Concatenate[Any, Rest], R], instance: object, owner: Any = None
    ) -> Callable[Rest, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else partial(self, instance)

    def _flat(self, args: Any, kwargs: Any) -> tuple[Any, list[Any], list[Any]]:
        leaves, structure = jax.tree.flatten((args, kwargs))
        places = _places(leaves)
        arrays, exact = leaves, None
        if places is not None:
            _check_hashable(places)
            exact = tuple([_exact(leaf) for leaf in places])
            arrays = [leaf for leaf, place in zip(leaves, places, strict=True) if place is _ARRAY]
        mask, donated, kept = None, [], arrays
        if self._donated != (None, None):
            mask = self._mask(args, kwargs, leaves)
            donated = [array for array, gone in zip(arrays, mask, strict=True) if gone]
            kept = [array for array, gone in zip(arrays, mask, strict=True) if not gone]
        return (structure, places, mask, exact), donated, kept

    def _mask(self, args: Any, kwargs: Any, leaves: list[Any]) -> tuple[bool, ...]:
        """For each array whether it is donated."""
        for_args, for_kwargs = self._donated
        if not isinstance(for_args, tuple | list):
            for_args = [for_args or False] * len(args)
        given = tuple(for_args)[: len(args)]
        named_choices = {n: for_kwargs.get(n, False) if isinstance(for_kwargs, dict) else for_kwargs for n in kwargs}
        choices = ((*given, *[False] * (len(args) - len(given))), named_choices)
        flat = jax.tree.leaves(broadcast_prefix(choices, (args, kwargs), is_leaf=lambda node: node is None))
        return tuple(
            bool(choice(leaf) if callable(choice) else choice)
            for choice, leaf in zip(flat, leaves, strict=True)
            if _is_array(leaf)
        )

    def _run_of_arrays(self, /, *args: Any, **kwargs: Any) -> Any:
        """What JAX traces if all leaves are arrays."""
        for leaf in jax.tree.leaves((args, kwargs)):
            seen = jax.typeof(leaf)
            if not seen.shape and (seen.weak_type or seen.dtype == bool):
                raise _MaybeStatic
        return self._run(args, kwargs)

    def _run_of_leaves(self, static: Any, donated: list[Any], kept: list[Any]) -> Any:
        """What JAX traces otherwise: puts the arguments together."""
        structure, places, mask, *_ = static
        arrays = kept
        if mask is not None:
            gone, stays = iter(donated), iter(kept)
            arrays = [next(gone) if is_gone else next(stays) for is_gone in mask]
        return self._run(*jax.tree.unflatten(structure, arrays if places is None else _filled(places, arrays)))

    def _run(self, args: Any, kwargs: Any) -> Any:
        """Calls the function, and lays out what goes in and comes out."""
        explicit = [mapping for mapping in (self._in, self._compute, self._out) if mapping is not None]
        if explicit and mesh_in_force() is None:
            raise errors.no_mesh("named_jit with an axis mapping")
        names = axis_names((args, kwargs))
        if self._in is not None:
            args, kwargs = laid_out((args, kwargs), self._in)
        if self._compute is None:
            result = self._called(args, kwargs, names)
        else:
            with axis_mapping(self._compute):
                result = self._called(args, kwargs, names)
        for mapping in (self._in, self._out):
            if mapping is not None:
                warn_of_misspelt(mapping, names)
        return _wrapped(result)

    def _called(self, args: Any, kwargs: Any, names: set[str]) -> Any:
        """The result, laid out. `names` becomes those of all axes that were seen."""
        result = self._fn(*args, **kwargs)
        names |= axis_names(result)
        note_names(names)
        if (entry := in_force()) is not None:
            names |= entry.names
        return laid_out(result, self._out)


class Compiler(Protocol):
    """What `named_jit` is as a decorator with arguments."""

    def __call__(self, fn: Callable[P, R], /) -> NamedJit[P, R]:
        """The function, compiled."""
        ...


def _exact(leaf: Any) -> Any:
    """What tells apart static values that are equal: 1, True and 1.0, or 0.0 and -0.0."""
    return repr(leaf) if isinstance(leaf, float | complex) else type(leaf)


def _check_hashable(places: tuple[Any, ...]) -> None:
    try:
        hash(places)
    except TypeError:
        for leaf in places:
            if type(leaf).__hash__ is None:
                raise errors.unhashable_static(leaf) from None
        raise


@overload
def named_jit(
    fn: Callable[P, R],
    axis_resources: ResourceMapping | None = None,
    *,
    in_axis_resources: ResourceMapping | None = None,
    out_axis_resources: ResourceMapping | None = None,
    donate_args: Any = None,
    donate_kwargs: Any = None,
    **pjit_args: Any,
) -> NamedJit[P, R]: ...


@overload
def named_jit(
    fn: None = None,
    axis_resources: ResourceMapping | None = None,
    *,
    in_axis_resources: ResourceMapping | None = None,
    out_axis_resources: ResourceMapping | None = None,
    donate_args: Any = None,
    donate_kwargs: Any = None,
    **pjit_args: Any,
) -> Compiler: ...


def named_jit(
    fn: Callable[..., Any] | None = None,
    axis_resources: ResourceMapping | None = None,
    *,
    in_axis_resources: ResourceMapping | None = None,
    out_axis_resources: ResourceMapping | None = None,
    donate_args: Any = None,
    donate_kwargs: Any = None,
    **pjit_args: Any,
) -> Any:
    """`jax.jit` for functions of any trees: leaves that are not arrays are static, and layouts are by name.

    Usable as a decorator, with or without arguments.

    Args:
        fn: the function.
        axis_resources: the axis mapping in force inside; by default the one in force where it is called.
        in_axis_resources: the mapping that NamedArrays among the arguments are laid out by; by default they stay as
            they are.
        out_axis_resources: the mapping that NamedArrays of the result are laid out by; by default the one in force
            inside.
        donate_args: whether the memory of arguments may be reused: for each positional argument a boolean, a function
            from an array to a boolean, or a tree of these; or one boolean for all.
        donate_kwargs: the same for keyword arguments, by name.
        pjit_args: passed on to `jax.jit`.

    Raises:
        AxisError: when called with a mapping given here and without a mesh in force.
        NamedTypeError: for an option of `jax.jit` that numbers arguments.

    Warns:
        AxisWarning: for a name of a mapping that no array has, where one has almost the same.

    >>> @hax.named_jit
    ... def scaled(x, by):
    ...     return x * by["factor"]
    >>> scaled(hax.arange(hax.Axis("embed", 3)), {"factor": 2, "why": "a leaf that is no array is static"})
    i32[embed=3] [0 2 4]
    """
    for option, instead in _INSTEAD.items():
        if option in pjit_args:
            raise errors.not_for_named_jit(option, instead)
    if fn is None:
        return partial(
            named_jit,
            axis_resources=axis_resources,
            in_axis_resources=in_axis_resources,
            out_axis_resources=out_axis_resources,
            donate_args=donate_args,
            donate_kwargs=donate_kwargs,
            **pjit_args,
        )
    mappings = (in_axis_resources, axis_resources, out_axis_resources)
    return NamedJit(fn, mappings, (donate_args, donate_kwargs), pjit_args)


@overload
def fsdp(
    fn: Callable[P, R], parameter_mapping: ResourceMapping, compute_mapping: ResourceMapping
) -> NamedJit[P, R]: ...


@overload
def fsdp(fn: ResourceMapping, parameter_mapping: ResourceMapping) -> Compiler: ...


@overload
def fsdp(
    fn: None = None, parameter_mapping: ResourceMapping = ..., compute_mapping: ResourceMapping = ...
) -> Compiler: ...


def fsdp(
    fn: Callable[..., Any] | ResourceMapping | None = None,
    parameter_mapping: ResourceMapping | None = None,
    compute_mapping: ResourceMapping | None = None,
) -> Any:
    """`named_jit` for fully sharded data parallelism: what goes in and out is laid out by `parameter_mapping`, and
    `compute_mapping` is in force inside. Usable as `fsdp(fn, parameters, compute)` or `@fsdp(parameters, compute)`.

    Args:
        fn: the function.
        parameter_mapping: the layout of NamedArrays at rest: those that go in and come out.
        compute_mapping: the mapping in force inside.

    Raises:
        NamedTypeError: if a mapping is missing.
    """
    if fn is not None and not callable(fn):
        return fsdp(None, fn, parameter_mapping if compute_mapping is None else compute_mapping)  # type: ignore[call-overload]
    for name, mapping in (("parameter_mapping", parameter_mapping), ("compute_mapping", compute_mapping)):
        if mapping is None:
            raise errors.fsdp_without_mapping(name)
    return named_jit(
        fn,
        axis_resources=compute_mapping,
        in_axis_resources=parameter_mapping,
        out_axis_resources=parameter_mapping,
    )
