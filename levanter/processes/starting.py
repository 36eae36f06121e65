"""Connecting this process to the others of its run, before JAX looks for devices."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from levanter.errors import Interrupted, UserError, WorkFailed
from levanter.processes import errors
from levanter.processes.connected import Connected
from levanter.processes.group import ALONE, Group
from levanter.processes.service import before_abort, connected_as

AUTO = "auto"
COORDINATOR, PROCESSES, PROCESS_ID = "LEVANTER_COORDINATOR", "LEVANTER_PROCESSES", "LEVANTER_PROCESS_ID"
"""The flags as variables of the environment, which `levanter launch` sets."""
_STEPS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
"""Variables that have the number of processes in each of those that `srun` or `mpirun` starts."""
_PLACES = (("SLURM_NTASKS", "SLURM_PROCID"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"))
"""Variables that have how many there are, and the number of each."""
_CONNECT_SECONDS = 300
_TELL_SECONDS = 0.5
_OF_A_RUNTIME = re.compile("(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED): ")
"""How an error of XLA's runtime begins. Where the value of an array is read, JAX raises it as a ValueError."""


@dataclass(frozen=True)
class Launch:
    """How the processes find each other; where `coordinator` is None, the cluster that started them knows."""

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None


def launch_of(
    coordinator: str | None, processes: str | None, process_id: int | None, environ: Mapping[str, str] = os.environ
) -> Launch | None:
    """What the flags and the environment say; None where this process runs alone.

    Args:
        coordinator: `HOST:PORT` of the first process. Where `srun` or `mpirun` started this one, they say the rest.
        processes: how many there are, or `auto`: the cluster knows.
        process_id: the number of this one.

    Raises:
        UserError: the flags do not make sense.
    """
    coordinator = coordinator or environ.get(COORDINATOR)
    processes = processes or environ.get(PROCESSES)
    if process_id is None and environ.get(PROCESS_ID, "").isdigit():
        process_id = int(environ[PROCESS_ID])
    if coordinator is not None and processes is None and process_id is None and _in_a_step(environ):
        processes, process_id = _place(environ)
    given = {"--coordinator": coordinator, "--processes": processes, "--process-id": process_id}
    if processes == AUTO or (not any(each is not None for each in given.values()) and _in_a_step(environ)):
        return Launch()
    if all(each is None for each in given.values()) or processes == "1":
        return None
    for flag, value in given.items():
        if value is None:
            raise errors.incomplete_flags(flag)
    assert coordinator is not None and processes is not None and process_id is not None
    if not processes.isdigit() or int(processes) < 1:
        raise errors.bad_count(processes)
    if not 0 <= process_id < int(processes):
        raise errors.bad_index(process_id, int(processes))
    if not re.fullmatch(r".+:\d+", coordinator):
        raise errors.bad_coordinator(coordinator)
    return Launch(coordinator, int(processes), process_id)


def processes_of(launch: Launch | None, environ: Mapping[str, str] = os.environ) -> int:
    """How many processes there will be, as far as that is known before they have met."""
    if launch is None:
        return 1
    told = next((int(environ[name]) for name in _STEPS if environ.get(name, "").isdigit()), 1)
    return launch.count or told


def start(launch: Launch) -> Group:
    """Connect this process to the others; JAX then has the devices of all of them.

    Raises:
        UserError: JAX has been used already, or no cluster is found.
        WorkFailed: the others are not there.
    """
    import jax

    if "cpu" in os.environ.get("JAX_PLATFORMS", "cpu").split(","):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        # gloo tells messages apart by their order alone: two programs at once would take each other's.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    # It would take SIGTERM for itself; when to stop is agreed on in `levanter.processes.agreement`.
    jax.config.update("jax_enable_preemption_service", False)
    began = time.monotonic()
    try:
        jax.distributed.initialize(
            launch.coordinator, launch.count, launch.index, initialization_timeout=_CONNECT_SECONDS
        )
    except ValueError as error:
        raise errors.no_cluster(str(error).splitlines()[0]) from error
    except Exception as error:
        reason = str(error).splitlines()[0]
        if "before" in reason:  # "… must be called before any JAX computations …"
            raise errors.started_late() from error
        where = launch.coordinator or "the coordinator"
        raise errors.cannot_connect(where, time.monotonic() - began, reason) from error
    connection, index, count = connected_as()
    found = Connected(connection, index, count)
    _connected.append(found)
    found.start()
    before_abort(found.aborting)
    return found


def group() -> Group:
    """The processes of this run. Where `start` was not called, this one is alone."""
    return _connected[-1] if _connected else ALONE


def leave_if_failed(code: int) -> None:
    """End this process with an exit code where its run in several processes has failed; return where not."""
    for each in _connected:
        if each.failed:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):
                    stream.flush()
            each.leave(code)


def leave_early(code: int, reason: str, leave: Callable[[int], object] = os._exit) -> None:
    """End this process at once, before there is anything to save; the others of its run hear why, if they can.

    They meet at the first process, which therefore waits a moment: a signal comes to all of them mostly.
    """
    for each in _connected:
        each.leaving = code
        if each.index > 0:
            telling = threading.Thread(target=each.fail, args=(reason,), daemon=True)
            telling.start()
            telling.join(_TELL_SECONDS)
        else:
            time.sleep(_TELL_SECONDS)
    leave(code)


_connected: list[Connected] = []


@contextlib.contextmanager
def working(members: Group) -> Iterator[None]:
    """The work of a run in this process: where it fails, the others are told, and where they fail, this one stops.

    Raises:
        WorkFailed: another process has stopped.
    """
    if not isinstance(members, Connected):
        yield
        return
    import jax

    try:
        yield
        members.end()
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) or _OF_A_RUNTIME.match(str(error)):
            raise members.explained(error) from error
        members.fail(f"{type(error).__name__}: {error}")
        raise
    except Interrupted:  # all have stopped, and those to whom no Ctrl-C came wait for this one to take its leave
        members.end()
        raise
    except (UserError, WorkFailed) as error:
        members.fail(str(error))
        raise
    except BaseException as error:
        members.fail(f"{type(error).__name__}: {error}")
        raise


def _place(environ: Mapping[str, str]) -> tuple[str | None, int | None]:
    """How many processes `srun` or `mpirun` started, and the number of this one."""
    for count, index in _PLACES:
        if environ.get(count, "").isdigit() and environ.get(index, "").isdigit():
            return environ[count], int(environ[index])
    return None, None


def _in_a_step(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name, "").isdigit() and int(environ[name]) > 1 for name in _STEPS)
