"""The wording of every way verification can fail."""

from __future__ import annotations

from collections.abc import Iterable

from levanter.errors import UserError, WorkFailed


def unreadable_hlo(line: str, why: str) -> WorkFailed:
    """A line of the compiler's output that the reader does not understand."""
    return WorkFailed(
        f"cannot read the compiled program ({why}, in `{line.strip()[:160]}`): "
        "this version of XLA writes it differently; `levanter compile` without --verify still works"
    )


def elided_constant(name: str) -> WorkFailed:
    """A table of slice offsets was left out of the dump."""
    return WorkFailed(
        f"cannot read the compiled program (the values of constant `{name}` were left out of the dump): "
        "dump it with --xla_dump_large_constants"
    )


def no_partitioned_module(devices: int) -> WorkFailed:
    """The compile succeeded and the partitioner left no dump."""
    return WorkFailed(
        f"XLA wrote no program after its SPMD partitioner (compiling for {devices} CPU devices): "
        "the function must be jitted with shardings over a mesh of all the devices"
    )


def child_failed(target: str, status: int, last_lines: str) -> WorkFailed:
    """The compiling process died or raised; `last_lines` is the end of its stderr. `target`: `8 CPU devices`."""
    how = f"was killed by signal {-status}; is there enough memory?" if status < 0 else f"ended with status {status}"
    tail = f"\n{last_lines}" if last_lines else ""
    return WorkFailed(f"compiling the step failed (for {target}, in a child process that {how}){tail}")


def child_too_slow(target: str, seconds: float) -> WorkFailed:
    """The compiling process ran past its time limit."""
    return WorkFailed(
        f"compiling the step took longer than {seconds:.0f} s (for {target}, in a child process): "
        "verify a smaller model or mesh"
    )


def no_tpu(hardware: str, known: Iterable[str]) -> UserError:
    return UserError(
        f"`{hardware}` is not a TPU whose slices are known: give --hardware {', '.join(known)}, "
        "or leave out --platform tpu to compile for CPU devices"
    )


def no_gpu(hardware: str, known: Iterable[str]) -> UserError:
    return UserError(
        f"`{hardware}` is not a GPU that steps are compiled for: give --hardware {', '.join(known)}, "
        "or leave out --platform gpu to compile for CPU devices"
    )


def unknown_gpus(name: str, error: Exception) -> UserError:
    reason = str(error).strip().partition("\n")[0]
    return UserError(
        f"JAX's CUDA plugin does not compile for {name} ({reason}): leave out --platform gpu to compile for CPU devices"
    )


def unknown_topology(name: str, error: Exception) -> UserError:
    reason = str(error).strip().partition("\n")[0]
    return UserError(f"libtpu describes no slice {name} ({reason}): give a --mesh that fits one, such as 4x2 for v5e")


def unnamed_slices(devices: int, slices: int, size: int, chip: str) -> UserError:
    return UserError(
        f"{devices} chips are {slices} slices of {size} {chip}, and no axis of the mesh is these slices: "
        f"give --mesh an axis `replica` of {slices}, such as replica={slices},data={size}"
    )


def topology_devices(name: str, found: int, wanted: int) -> UserError:
    return UserError(f"the slice {name} has {found} devices and the mesh {wanted}: give a --mesh of as many")
