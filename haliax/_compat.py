"""What differs between versions of JAX, or has no public name there."""

from __future__ import annotations

from typing import Any

import jax


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
