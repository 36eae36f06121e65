"""What differs between versions of JAX, or has no public name there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

Wrapper = Callable[[Callable[[Any], Any]], Callable[[Any], Any]]


INLINED_WHILE_TRACING: Any = jax.Inline.JAX_EARLY if hasattr(jax, "Inline") else True
"""What `jax.jit(inline=…)` takes for a call that leaves its equations in the trace, not a call; True before 0.12."""


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


def extend_grad(scalar_check: Wrapper, unit_cotangent: Wrapper) -> None:
    """Puts wrappers around the two functions by which `jax.value_and_grad` tells and starts from a scalar loss.

    `value_and_grad` does with the result of a function three things: `_check_scalar(result)`, a check of its dtype that
    goes through pytrees, and the backward pass of `_one_vjp(result)`, whose structure must be that of the result. The
    first and the last know arrays only, and JAX offers no protocol by which another type is taken for a scalar. Where a
    version of JAX lacks one of them nothing is changed, and the error is JAX's own.
    """
    from jax._src import api
    from jax._src.lax import lax

    if hasattr(api, "_check_scalar") and hasattr(lax, "_one_vjp"):
        api._check_scalar = scalar_check(api._check_scalar)
        lax._one_vjp = unit_cotangent(lax._one_vjp)
