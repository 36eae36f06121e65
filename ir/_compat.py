"""The few places where staging and lowering need what JAX does not export.

Each function says why the public API does not serve, so that it can be dropped when it does.
"""

import os
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import equinox
import jax
import jax._src.source_info_util as source_info_util  # `jax.extend.source_info_util` has no `user_context`
import jaxlib
import optax  # pyright: ignore[reportMissingTypeStubs]

import haliax
from ir.graph import Source
from ir.jax_api import make_jaxpr, tree_unflatten


def _folder(module: Any) -> str:
    return os.path.dirname(module.__file__) + os.sep


_LIBRARIES = tuple(_folder(module) for module in (jax, jaxlib, haliax, equinox, optax)) + (
    os.path.dirname(__file__) + os.sep,
)
_is_library: dict[str, bool] = {}


def user_source(source_info: Any) -> Source | None:
    """The innermost frame outside JAX, haliax, equinox and optax; None where the equation has no Python origin."""
    traceback = getattr(source_info, "traceback", None)
    if traceback is None:
        return None
    for frame in traceback.frames:
        path = frame.file_name
        library = _is_library.get(path)
        if library is None:
            library = _is_library[path] = path.startswith(_LIBRARIES) or path.startswith("<")
        if not library:
            return Source(os.path.basename(path), frame.line_num, path)
    return None


@contextmanager
def equation_context(context: Any, source_info: Any) -> Generator[None]:
    """Binds within it carry the user's line and the settings (PRNG flags, XLA metadata) of the original equation."""
    manager: AbstractContextManager[Any] = context.manager if context is not None else nullcontext()
    if source_info is None:
        with manager:
            yield
        return
    with source_info_util.user_context(source_info.traceback, name_stack=source_info.name_stack), manager:
        yield


def expanded(equation: Any) -> Any:
    """The closed jaxpr of what a composite primitive (`jax.experimental.hijax`, since JAX 0.11) stands for; its
    equation keeps it as an object, under a private name."""
    primitive = equation.params.get("_prim", equation.params.get("prim"))
    avals = [variable.aval for variable in equation.invars]

    def flat(*leaves: Any) -> Any:
        return primitive.expand(*tree_unflatten(primitive.in_tree, leaves))

    return make_jaxpr(flat)(*avals)


def scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many constants and carries a `scan` has: numbers up to JAX 0.11, parts of the flat tree `ft_in` since."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carries, _ = params["ft_in"].unpack()
    return len(constants), len(carries)
