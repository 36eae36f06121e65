"""What differs between versions of JAX, or has no public name there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax._src.array import ArrayImpl


def _sharding_errors() -> tuple[type[Exception], ...]:
    """What an operation raises under an Explicit mesh if it cannot tell its sharding: these have no public names."""
    from jax._src import core, named_sharding

    found = [getattr(core, "ShardingTypeError", None), getattr(named_sharding, "DuplicateSpecError", None)]
    return tuple([error for error in found if error is not None])


SHARDING_ERRORS = _sharding_errors()

ConcreteArray: type = ArrayImpl
"""The class of every array that is no tracer. To ask an array for it would start JAX's backends on import, and
`isinstance(…, jax.Array)` costs as much as making a NamedArray."""

Wrapper = Callable[[Callable[[Any], Any]], Callable[[Any], Any]]


_Inline: Any = getattr(jax, "Inline", None)
INLINED_WHILE_TRACING: Any = True if _Inline is None else _Inline.JAX_EARLY
"""What `jax.jit(inline=…)` takes for a call that leaves its equations in the trace, not a call; True before 0.12."""


def is_per_device(array: Any) -> bool:
    """Whether this is a value of the inside of `jax.shard_map` whose type says over which mesh axes it varies.

    An equation must say that of its results, and how it is said has changed from version to version.
    """
    type_ = jax.typeof(array)
    found = getattr(getattr(type_, "manual_axis_type", None), "varying", None) or getattr(type_, "vma", None)
    return bool(found)


def has_splash_attention() -> bool:
    """Whether this version of JAX has `splash_attention`: asked of its files, for to import it takes a third of a
    second, which who only wants to know would wait for."""
    return (Path(jax.__file__).parent / "experimental" / "pallas" / "ops" / "tpu" / "splash_attention").is_dir()


def splash_attention() -> Any:
    """The module of Splash Attention, the TPU kernel; None where this version of JAX lacks it.

    It is experimental: JAX says of no release that it is there.
    """
    try:
        from jax.experimental.pallas.ops.tpu import splash_attention as module
    except ImportError:
        return None
    return module


def current_mesh() -> Any:
    """The device mesh in force, by `jax.set_mesh` or `with mesh:`; None if there is none."""
    concrete = getattr(jax.sharding, "get_mesh", None)
    if concrete is not None:
        try:
            mesh = concrete()
        except ValueError:  # asked for while tracing; the abstract mesh then says the same
            mesh = jax.sharding.get_abstract_mesh()
        if not mesh.empty:
            return mesh
    from jax._src.mesh import thread_resources  # `with mesh:` is seen only here

    mesh = thread_resources.env.physical_mesh
    return None if mesh.empty else mesh


def refuse_in_primitives(kind: type, refusal: Callable[[Any], Any]) -> None:
    """Registers what is called with a value of this type where an operation of `jax.lax` is given one.

    It is the registry by which JAX makes arrays of other types of values; what `refusal` raises is raised there.
    """
    from jax.interpreters import xla

    handlers = getattr(xla, "canonicalize_dtype_handlers", None)
    if handlers is not None:
        handlers[kind] = refusal


# Neither JAX nor numpy says on whose behalf it asks a value for its array, and only that tells `jnp.asarray(x)`, which
# gets the numbers, from `jnp.sin(x)`, which would drop the names. So the frames of the call are read: the names below
# are those of JAX's own files and functions. Where a version has others, the error names no function, or is JAX's own.
_JAX = os.path.dirname(jax.__file__) + os.sep
_NUMPY = os.path.dirname(np.__file__) + os.sep
_NUMPY_TESTING = os.path.join(_NUMPY, "testing", "")
# Where the functions that people call live in JAX, and how people call them.
_CALLED = {
    "numpy": "jnp",
    "nn": "jax.nn",
    "lax": "jax.lax",
    "scipy": "jax.scipy",
    "random": "jax.random",
    "random.py": "jax.random",
    "image": "jax.image",
    "ops": "jax.ops",
}
_UNNAMED = ("rewriting_take", "wrapped", "wrapper")


def is_of_jax(frame: FrameType | None) -> bool:
    """Whether this is code of JAX."""
    return frame is not None and frame.f_code.co_filename.startswith(_JAX)


def is_array_operator(frame: FrameType) -> bool:
    """Whether this is an operator of a plain JAX array looking at its other operand."""
    asking = frame.f_code.co_name
    return asking.startswith("_operator") or asking == "deferring_binary_op"


def is_given_itself(frame: FrameType, value: Any) -> bool:
    """Whether this, `jnp.array` or `jnp.asarray`, was given the value itself, not a list that holds it."""
    return frame.f_locals.get("object") is value


def called_of_jax(frame: FrameType | None) -> str:
    """The function of JAX that the innermost code outside of JAX has called, as people write it."""
    name = "a function of JAX"
    while frame is not None and (is_of_jax(frame) or "<" in frame.f_code.co_filename):
        name = _name_in_jax(frame) or name
        frame = frame.f_back
    return name


def _name_in_jax(frame: FrameType) -> str | None:
    """`jnp.linalg.norm` for the frame of a function that people call; None for any other."""
    folder, *rest = frame.f_code.co_filename.removeprefix(_JAX).removeprefix(f"_src{os.sep}").split(os.sep)
    room = _CALLED.get(folder)
    own = frame.f_code.co_name
    if own == "__call__":  # a `jnp.ufunc`
        own = getattr(frame.f_locals.get("self"), "__name__", "_")
    if room is None or own.startswith(("_", "<")):
        return None
    if own in _UNNAMED:
        return "a function of JAX"
    part = rest[-1].removesuffix(".py") if rest else ""
    if folder == "numpy" and part == "array_methods":
        return f"jax.Array.at[…].{own}"
    return f"{room}.{part}.{own}" if part in ("linalg", "fft", "special", "stats") else f"{room}.{own}"


def called_of_numpy(frame: FrameType | None) -> str | None:
    """The function of numpy, written in Python, on whose behalf an array is asked for, as people write it; None
    outside of one.

    `numpy.asarray` and the like are not written in Python, and `numpy.testing` compares numbers.
    """
    name = None
    while frame is not None and (file := frame.f_code.co_filename).startswith(_NUMPY):
        if file.startswith(_NUMPY_TESTING):
            return None
        room, *rest = file.removeprefix(_NUMPY).split(os.sep)
        own = frame.f_code.co_name
        if not own.startswith(("_", "<")):
            name = f"np.{room}.{own}" if rest and room in ("linalg", "fft", "ma", "polynomial") else f"np.{own}"
        else:
            name = name or "a function of numpy"
        frame = frame.f_back
    return name


def is_scalar_check(frame: FrameType | None) -> bool:
    """Whether this is `jax.grad` looking at its loss: there, and only there, it asks the loss for its type.

    A frame of another version of JAX is not known, and the error is then JAX's own.
    """
    return frame is not None and frame.f_code.co_name == "typeof" and _name(frame.f_back) == "_check_scalar"


def _name(frame: FrameType | None) -> str:
    return "" if frame is None else frame.f_code.co_name


def extend_grad(scalar_check: Wrapper, unit_cotangent: Wrapper) -> None:
    """Puts wrappers around the two functions by which `jax.value_and_grad` tells and starts from a scalar loss.

    `value_and_grad` does with the result of a function three things: `_check_scalar(result)`, a check of its dtype that
    goes through pytrees, and the backward pass of `_one_vjp(result)`, whose structure must be that of the result. The
    first and the last know arrays only, and JAX offers no protocol by which another type is taken for a scalar. Where a
    version of JAX lacks one of them nothing is changed, and the error is JAX's own. A wrapper that is there already, of
    this module or of one that was reloaded, is replaced.
    """
    from jax._src import api
    from jax._src.lax import lax

    if hasattr(api, "_check_scalar") and hasattr(lax, "_one_vjp"):
        api._check_scalar = _wrapped_once(scalar_check, api._check_scalar)
        lax._one_vjp = _wrapped_once(unit_cotangent, lax._one_vjp)


def _wrapped_once(wrapper: Wrapper, function: Any) -> Any:
    original = getattr(function, "haliax_original", function)
    wrapped: Any = wrapper(original)
    wrapped.haliax_original = original
    return wrapped
