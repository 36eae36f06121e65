"""The compiling process: `python -m levanter.compiler.verify.child`, with one JSON request on stdin.

XLA fixes the number of CPU devices when it starts, so a mesh of 8 is compiled in a process of its own. The request
names a function that gives a `jax.stages.Lowered`; the process compiles it, and leaves the partitioned module (for a
TPU or a GPU the optimized one) and the memory numbers at the paths that the request names. Where it names no path for
the module, what the function gives is the answer itself. Where it names a keeper that has the program, the answer is
the digest alone by which it is kept. `levanter.compiler.verify.isolate` is the other end.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from levanter.compiler.verify.kept import Keeper, digest_of
from levanter.errors import EXIT_USER_ERROR, UserError
from passes.hardware.network import SLOW_AXIS

OPTIMIZED = "optimized.txt"
"""The file with the module of a program for a TPU or a GPU."""
_BUFFERS = "buffers"
"""The folder in which libtpu says what it assigned."""
_ASSIGNED = re.compile(r"^Memory Space: default \(color=0\)\nTotal bytes: (\d+)", re.MULTILINE)
_MEMORY = {
    "arguments": "argument_size_in_bytes",
    "outputs": "output_size_in_bytes",
    "aliased": "alias_size_in_bytes",
    "temporaries": "temp_size_in_bytes",
}


def main() -> int:
    """Reads the request, compiles, writes the result; the status is that of the `levanter` command."""
    request = json.load(sys.stdin)
    try:
        given = _called(request["function"], request["request"])
        answer, status = _compiled_for(request, given) if request["dump"] else {"answer": given}, 0
    except UserError as error:
        answer, status = {"user_error": str(error)}, EXIT_USER_ERROR
    Path(request["result"]).write_text(json.dumps(answer))
    return status


def _called(function: str, request: dict[str, Any]) -> Any:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(request)


def _compiled_for(request: dict[str, Any], lowered: Any) -> dict[str, Any]:
    if request["keeper"] is None:
        return _compiled_now(request, lowered)
    digest = digest_of(lowered, request["request"])
    there = Keeper.of_json(request["keeper"]).has(digest)
    return {"digest": digest} if there else {"digest": digest, **_compiled_now(request, lowered)}


def _compiled_now(request: dict[str, Any], lowered: Any) -> dict[str, Any]:
    if "topology" in request["request"]:
        return _compiled_ahead(lowered, request["dump"], request["request"]["topology"]["platform"])
    return _compiled(lowered, request["dump"])


def _compiled(lowered: Any, dump: str) -> dict[str, Any]:
    # Options of this one compile, so that nothing else the process compiles is dumped. Level 0 saves LLVM's time and
    # changes neither the partitioner nor the buffers.
    options = {
        "xla_dump_to": dump,
        "xla_dump_hlo_pass_re": "spmd.*",
        "xla_dump_hlo_as_text": True,
        "xla_dump_large_constants": True,
        "xla_backend_optimization_level": 0,
    }
    return _memory(lowered.compile(compiler_options=options))


def _compiled_ahead(lowered: Any, dump: str, platform: str) -> dict[str, Any]:
    """What runs on a TPU or a GPU is the optimized module, which the compiled program has itself."""
    buffers = Path(dump, _BUFFERS)
    buffers.mkdir(parents=True)
    options = {"xla_dump_to": str(buffers), "xla_dump_hlo_as_text": True} if platform == "tpu" else None
    compiled = lowered.compile(compiler_options=options)
    Path(dump, OPTIMIZED).write_text(compiled.as_text())
    found = _memory(compiled)
    assigned = [int(size) for report in _reports(buffers) for size in _ASSIGNED.findall(report)]
    if not assigned:
        return found
    return {"memory": {**found["memory"], "assigned": max(assigned)}, "chips": _chips(compiled)}


def _chips(compiled: Any) -> list[int]:
    """The numbers of the chips of a mesh over several slices, slice by slice; none of another mesh."""
    import jax
    import numpy as np

    meshes = [getattr(each, "mesh", None) for each in jax.tree.leaves(compiled.input_shardings)]
    mesh = next((each for each in meshes if each is not None and SLOW_AXIS in each.axis_names), None)
    if mesh is None:
        return []
    return [chip.id for chip in np.moveaxis(mesh.devices, mesh.axis_names.index(SLOW_AXIS), 0).flatten()]


def _reports(buffers: Path) -> Iterator[str]:
    for path in sorted(buffers.rglob("*memory-usage-report.txt")):
        yield path.read_text()


def _memory(compiled: Any) -> dict[str, Any]:
    analysis = compiled.memory_analysis()
    return {"memory": {name: int(getattr(analysis, field)) for name, field in _MEMORY.items()}}


if __name__ == "__main__":
    sys.exit(main())
