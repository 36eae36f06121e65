"""The run directory of a run in several processes: the first one has it, and the others are told what is in it.

No JAX here: the directory says how many threads JAX is to have.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from levanter.errors import UserError, WorkFailed
from levanter.processes import errors
from levanter.processes.group import Group
from levanter.runtime.record import Record
from levanter.runtime.run_directory import RunDirectory

_TOPIC = "run directory"
_REFUSED = "!"


class Told(RunDirectory):
    """The run directory as the other processes have it: what there is to write, the first one writes."""

    def started(self) -> Told:
        return Told(**vars(super().started()))

    def write_config(self, record: Record) -> None:
        return


@contextlib.contextmanager
def opened_by_the_first(
    members: Group, open_run: Callable[[], AbstractContextManager[RunDirectory]]
) -> Iterator[RunDirectory]:
    """The run directory, which the first process alone opens and locks.

    Raises:
        UserError: as `open_run`, in the first process.
        WorkFailed: in the others, with what the first one says.
    """
    if members.index > 0:
        said = members.exchange(_TOPIC)[0]
        if said.startswith(_REFUSED):
            raise errors.stopped_elsewhere(0, said.removeprefix(_REFUSED))
        run = pickle.loads(base64.b64decode(said))
        yield Told(**{field.name: getattr(run, field.name) for field in dataclasses.fields(run)})
        return
    with contextlib.ExitStack() as stack:
        try:
            run = stack.enter_context(open_run())
        except (UserError, WorkFailed) as error:
            members.exchange(_TOPIC, f"{_REFUSED}{error}")
            raise
        members.exchange(_TOPIC, base64.b64encode(pickle.dumps(run)).decode() if members.count > 1 else "")
        yield run
