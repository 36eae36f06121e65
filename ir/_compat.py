"""The few places where staging and lowering need what JAX does not export.

Each function says why the public API does not serve, so that it can be dropped when it does.
"""

import os
import sysconfig
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import equinox
import jax
import jax._src.source_info_util as source_info_util  # `jax.extend.source_info_util` has no `user_context`
import jaxlib

import haliax
from ir.graph import Source
from ir.jax_api import make_jaxpr, tree_unflatten


def _folder(module: Any) -> str:
    return os.path.dirname(module.__file__) + os.sep


# Of Equinox the folder that calls the methods of every module, those of haliax.nn among them.
_EQUINOX = _folder(equinox) + "_module" + os.sep
_MACHINERY = (*map(_folder, (jax, jaxlib, haliax)), _EQUINOX, os.path.dirname(__file__) + os.sep)
_PYTHON = sysconfig.get_path("stdlib") + os.sep
_kinds: dict[str, str] = {}


def _kind(path: str) -> str:
    """Whose file it is: of the machinery that makes equations, of a library that people call, or the user's."""
    known = _kinds.get(path)
    if known is None:
        installed = "site-packages" in path or "dist-packages" in path
        machinery = path.startswith(_MACHINERY) or path.startswith("<") or (path.startswith(_PYTHON) and not installed)
        known = _kinds[path] = "machinery" if machinery else "library" if installed else "user"
    return known


def user_source(source_info: Any) -> Source | None:
    """The innermost of the user's frames, with that of the library it called; that of the library alone where no frame
    is the user's, and None where the equation has no Python origin."""
    traceback = getattr(source_info, "traceback", None)
    if traceback is None:
        return None
    within: Source | None = None
    for frame in traceback.frames:
        path = frame.file_name
        kind = _kind(path)
        if kind == "user":
            return Source(os.path.basename(path), frame.line_num, path, within)
        if kind == "library" and within is None:
            within = Source(_in_library(path), frame.line_num, path)
    return within


def is_library(source: Source) -> bool:
    """Whether a line is a library's: none of the user's led to it."""
    return _kind(source.path) == "library"


def _in_library(path: str) -> str:
    """`flax/linen/attention.py`: the file as people import it."""
    parts = path.split(os.sep)
    installed = max(i for i, part in enumerate(parts) if part in ("site-packages", "dist-packages"))
    return "/".join(parts[installed + 1 :])


@contextmanager
def equation_context(context: Any, source_info: Any) -> Generator[None]:
    """Binds within it carry the user's line and the settings (PRNG flags, XLA metadata) of the original equation, and
    the mesh of the program that is being made."""
    manager: AbstractContextManager[Any] = context.manager if context is not None else nullcontext()
    mesh: AbstractContextManager[Any] = jax.sharding.use_abstract_mesh(jax.sharding.get_abstract_mesh())
    if source_info is None:
        with manager, mesh:
            yield
        return
    with source_info_util.user_context(source_info.traceback, name_stack=source_info.name_stack), manager, mesh:
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


def scan_params(params: Mapping[str, Any], jaxpr: Any, counts: tuple[int, int, int, int]) -> dict[str, Any]:
    """The parameters of a `scan` with another body.

    Args:
        counts: its constants, carries, what it scans over, and what it stacks. JAX 0.12 keeps them as flat trees of a
            private kind, which a scan of so many numbers has as well.
    """
    if "num_consts" in params:
        return {**params, "jaxpr": jaxpr, "num_consts": counts[0], "num_carry": counts[1]}
    constants, carries, scanned, stacked = counts

    def scan(fixed: list[Any], init: list[Any], xs: list[Any]) -> Any:
        def body(carry: list[Any], x: list[Any]) -> Any:
            total = sum([*fixed, *x], jax.numpy.float32(0))
            return [each + total for each in carry], [total] * stacked

        return jax.lax.scan(body, init, xs, length=2)

    zero, pair = jax.ShapeDtypeStruct((), "float32"), jax.ShapeDtypeStruct((2,), "float32")
    made = make_jaxpr(scan)([zero] * constants, [zero] * carries, [pair] * scanned)
    trees = next(each.params for each in made.eqns if each.primitive.name == "scan")
    return {**params, "jaxpr": jaxpr, "ft_in": trees["ft_in"], "ft_out": trees["ft_out"]}


def below(source_info: Any, scope: str) -> Any:
    """The source info of an equation whose name stack goes one scope deeper."""
    return source_info.replace(name_stack=source_info.name_stack.extend(scope))
