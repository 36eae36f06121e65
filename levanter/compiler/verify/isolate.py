"""Compiles a step for a mesh in a child process, whatever platform and device count this process has: for that many CPU
devices, or ahead of time for a TPU slice or GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levanter.compiler.verify import errors
from levanter.compiler.verify.child import OPTIMIZED
from levanter.compiler.verify.gpus import GpuTopology
from levanter.compiler.verify.kept import keeper
from levanter.compiler.verify.topology import Topology
from levanter.errors import EXIT_USER_ERROR, UserError

LOWER_STEP = "levanter.compiler.compile:lower_for_verify"
_PARTITIONED = "module_*after_spmd-partitioning*.txt"
_LAST_LINES = 12
_DEVICE_FLAG = "--xla_force_host_platform_device_count"
_PATIENCE = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds",
    "--xla_cpu_collective_call_terminate_timeout_seconds",
)
"""How long a CPU device waits for the others before XLA gives up: 40 s, if nothing is said, and on few cores devices
take turns."""
_LONG = 600


@dataclass(frozen=True)
class CompiledProgram:
    """What the compiler made of a step.

    Attributes:
        text: the HLO module right after the SPMD partitioner, of a program for a TPU or a GPU the optimized one; "" for
            one CPU device, where the partitioner does not run.
        memory: bytes per device: `arguments`, `outputs`, `aliased` (outputs in the place of arguments), `temporaries`;
            of a program for a TPU also `assigned`, all that it takes of HBM.
        seconds: how long the child process took.
        chips: of a program for several TPU slices, the numbers of the chips of the mesh, slice by slice.
        digest: by which it is kept (see `keeping`), if it is.
    """

    text: str
    memory: Mapping[str, int]
    seconds: float
    chips: Sequence[int] = ()
    digest: str = ""

    @property
    def peak(self) -> int:
        """Bytes per device while the step runs: arguments + outputs − aliased + temporaries.

        On a TPU it is what was assigned: among the temporaries libtpu counts twice what a loop takes over in place, so
        that programs which it compiles would not fit their chip.
        """
        memory = self.memory
        if "assigned" in memory:
            return memory["assigned"]
        return memory["arguments"] + memory["outputs"] - memory["aliased"] + memory["temporaries"]


def compile_in_child(
    request: Mapping[str, Any],
    *,
    devices: int,
    function: str = LOWER_STEP,
    timeout: float | None = None,
    topology: Topology | GpuTopology | None = None,
) -> CompiledProgram:
    """Compiles what `function` lowers, in a child process with that many CPU devices, or for a TPU slice or GPUs.

    Args:
        request: a JSON object, handed to the function.
        devices: how many devices the mesh has.
        function: `module:name` of a function that takes the request and returns a `jax.stages.Lowered`.
        timeout: seconds after which to give up.
        topology: the TPU slice or the GPUs to compile for; the function finds it as `topology` in its request.

    Raises:
        UserError: the function raised one; its message is the same.
        WorkFailed: the compile failed, was killed, ran too long, or left no partitioned module.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="levanter-verify-") as name:
        dump = Path(name, "dump")
        result = _in_child(request, devices, function, timeout, Path(name), dump, topology)
        text = _partitioned(dump)
    digest, kept = result.get("digest", ""), keeper()
    compiled = "memory" in result
    if kept is not None and not compiled:
        text, result = kept.read(digest)
    if devices > 1 and not text:
        raise errors.no_partitioned_module(devices)
    if kept is not None and compiled:
        kept.write(digest, text, result)
    return CompiledProgram(text, result["memory"], time.perf_counter() - started, result.get("chips", ()), digest)


def answer_in_child(
    request: Mapping[str, Any], *, devices: int, function: str, timeout: float | None = None
) -> dict[str, Any]:
    """What `function` answers, in a child process with that many CPU devices.

    Args:
        request, devices, timeout: as in `compile_in_child`.
        function: `module:name` of a function that takes the request and returns a JSON object.

    Raises:
        UserError, WorkFailed: see `compile_in_child`.
    """
    with tempfile.TemporaryDirectory(prefix="levanter-verify-") as name:
        answer: dict[str, Any] = _in_child(request, devices, function, timeout, Path(name), None)["answer"]
    return answer


def _in_child(
    request: Mapping[str, Any],
    devices: int,
    function: str,
    timeout: float | None,
    folder: Path,
    dump: Path | None,
    topology: Topology | GpuTopology | None = None,
) -> dict[str, Any]:
    target = f"{devices} CPU devices" if topology is None else topology.name
    result_file = folder / "result.json"
    kept = keeper()
    paths = {
        "dump": str(dump) if dump is not None else None,
        "result": str(result_file),
        "keeper": kept.as_json() if kept is not None else None,
    }
    described = {"topology": topology.as_json()} if topology is not None else {}
    message = json.dumps({"function": function, "request": {**request, **described}, **paths})
    try:
        child = subprocess.run(
            [sys.executable, "-m", "levanter.compiler.verify.child"],
            input=message,
            capture_output=True,
            text=True,
            errors="replace",
            env=_environment(devices if topology is None else 1),
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise errors.child_too_slow(target, error.timeout) from None
    return _result(child, result_file, target)


def _result(child: subprocess.CompletedProcess[str], path: Path, target: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if child.returncode == EXIT_USER_ERROR and "user_error" in result:
        raise UserError(result["user_error"])
    if child.returncode != 0 or not result:
        last = "\n".join(child.stderr.strip().splitlines()[-_LAST_LINES:])
        raise errors.child_failed(target, child.returncode, last)
    return result


def _partitioned(dump: Path) -> str:
    """The text of the module; only one is compiled with the dump on."""
    files = [*sorted(dump.glob(_PARTITIONED)), *dump.glob(OPTIMIZED)] if dump.exists() else []
    return files[-1].read_text(errors="replace") if files else ""


def _environment(devices: int) -> dict[str, str]:
    """This process's environment with CPU devices instead; what it can import, the child can import."""
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(_DEVICE_FLAG)]
    patience = [f"{flag}={_LONG}" for flag in _PATIENCE if not any(each.startswith(flag) for each in flags)]
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join([*flags, *patience, f"{_DEVICE_FLAG}={devices}"]),
        # A program that comes out of a cache is not partitioned again, so nothing would be dumped.
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        # libtpu neither asks a metadata server for the TPUs of this machine nor locks them: it only describes.
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
