"""What the processes of a run do as one: the first has the run directory, the trackers and the words.

In a run of one process nothing of this does anything.
"""

from __future__ import annotations

import base64
import contextlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import jax

from levanter.config import TrainConfig
from levanter.errors import UserError, WorkFailed
from levanter.processes import errors
from levanter.processes.arrays import on_one_device
from levanter.processes.group import Group
from levanter.runtime.run_directory import RunDirectory

_REFUSED = "!"


def check_mesh(config: TrainConfig, members: Group) -> None:
    """Hold the mesh against the devices of all processes.

    Raises:
        UserError: it leaves some of them out, or wants more.
    """
    if members.count == 1:
        return
    mesh, devices = config.trainer.mesh, jax.device_count()
    if mesh is None or config.mesh.devices != devices:
        raise errors.mesh_needs_all(mesh, config.mesh.devices, devices, members.count)


@contextlib.contextmanager
def opened_by_the_first(
    members: Group, open_run: Callable[[], AbstractContextManager[RunDirectory]]
) -> Iterator[RunDirectory]:
    """The run directory, which the first process alone opens and locks; the others are told what it found.

    Raises:
        UserError: as `open_run`, in the first process.
        WorkFailed: in the others, with what the first one says.
    """
    topic = "run directory"
    if members.index > 0:
        said = members.exchange(topic)[0]
        if said.startswith(_REFUSED):
            raise errors.stopped_elsewhere(0, said.removeprefix(_REFUSED))
        yield pickle.loads(base64.b64decode(said))
        return
    with contextlib.ExitStack() as stack:
        try:
            run = stack.enter_context(open_run())
        except (UserError, WorkFailed) as error:
            members.exchange(topic, f"{_REFUSED}{error}")
            raise
        members.exchange(topic, base64.b64encode(pickle.dumps(run)).decode())
        yield run


def by_the_first(members: Group, model: Any, use: Callable[[Any], None]) -> None:
    """`use(model)` in the first process, with the whole model on one of its devices where several have parts of it."""
    if members.count == 1:
        use(model)
    else:
        on_one_device(model, use, members.index == 0)
