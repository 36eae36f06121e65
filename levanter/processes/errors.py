"""The wording of everything that can be wrong between the processes of a run."""

from __future__ import annotations

from levanter.errors import UserError, WorkFailed


def incomplete_flags(missing: str) -> UserError:
    return UserError(
        f"{missing} is missing: several processes need --coordinator HOST:PORT, --processes N and --process-id I, "
        "the same but for the last in each of them; or --processes auto, under SLURM, Open MPI, GKE or on a TPU pod"
    )


def bad_count(value: str) -> UserError:
    return UserError(f"--processes is {value}: it must be a number of at least 1, or auto")


def bad_index(index: int, count: int) -> UserError:
    return UserError(f"--process-id is {index}: with --processes {count} it must be from 0 to {count - 1}")


def bad_coordinator(value: str) -> UserError:
    return UserError(f"--coordinator is {value}: write HOST:PORT, such as node0:1234, of the process with id 0")


def no_cluster(reason: str) -> UserError:
    return UserError(
        f"--processes auto finds no cluster that started this process ({reason}): start it with srun or mpirun, on GKE "
        "or on a TPU pod; or give --coordinator HOST:PORT, and outside of srun and mpirun --processes N and "
        "--process-id I too"
    )


def cannot_connect(coordinator: str, seconds: float, reason: str) -> WorkFailed:
    return WorkFailed(
        f"the processes of this run did not find each other at {coordinator} within {seconds:.0f} s ({reason}): check "
        "that all of them run, with the same --coordinator and --processes, and that the port is reachable"
    )


def started_late() -> UserError:
    return UserError("the processes of a run must be connected before JAX is used: call levanter.processes.start first")


def mesh_does_not_divide(mesh: str, devices: int, processes: int) -> UserError:
    lower = devices // processes * processes
    fix = f"{lower} or {lower + processes}" if lower else f"{processes}"
    return UserError(
        f"mesh {mesh} has {devices} devices, which {processes} processes cannot share out evenly: use one of {fix}"
    )


def mesh_needs_all(mesh: str | None, wanted: int, devices: int, processes: int) -> UserError:
    what = "this run has no mesh" if mesh is None else f"mesh {mesh} has {wanted} devices"
    return UserError(
        f"{what} and its {processes} processes have {devices} devices: the mesh must have all of them, "
        f"for example --mesh {devices}"
    )


def lost(index: int, seconds: float) -> WorkFailed:
    return WorkFailed(
        f"process {index} of this run has not been heard of for {seconds:.0f} s, so all of them stop: see what it "
        "wrote; rerun the same command to resume from the last checkpoint"
    )


def first_lost() -> WorkFailed:
    return WorkFailed(
        "the first process of this run, which the others meet at, has stopped, so all of them stop: see what it wrote; "
        "rerun the same command to resume from the last checkpoint"
    )


def stopped_elsewhere(index: int, message: str) -> WorkFailed:
    return WorkFailed(f"process {index} of this run has stopped, so all of them stop: {message}")


def connection_lost(reason: str) -> WorkFailed:
    return WorkFailed(
        f"the connection to another process of this run broke off ({reason}): see which of them has stopped; rerun the "
        "same command to resume from the last checkpoint"
    )


def nothing_to_launch() -> UserError:
    return UserError("nothing to launch: write the command after --, such as levanter launch --processes 2 -- train")


def cannot_launch(command: str) -> UserError:
    return UserError(f"`levanter {command}` runs in one process: launch starts `train` in several")


def child_failed(index: int, code: int) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"process {index} {how}: the others are stopped"


def children_killed(indices: list[int], seconds: float) -> str:
    if len(indices) == 1:
        return f"process {indices[0]} did not stop within {seconds:.0f} s and was killed"
    return f"processes {', '.join(map(str, indices))} did not stop within {seconds:.0f} s and were killed"
