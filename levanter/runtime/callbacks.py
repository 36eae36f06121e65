"""Code of the user's own that looks on while a run is made.

    class Emptied(Callback):
        every = 100
        reads_state = True

        def on_step(self, step, numbers, state):
            return {"dead_units": dead_units(state.model)}

It is given to `train(config, callbacks=[Emptied()])`, or named in a configuration: `trainer.callbacks:
[my_callbacks.py:Emptied]`. A callback looks on: it cannot change the bits of a run, and what it raises ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levanter import user_code
from levanter.runtime import errors

if TYPE_CHECKING:
    from levanter.config import TrainConfig


@dataclass(frozen=True)
class RunStart:
    """What a callback is told when a run starts or resumes."""

    directory: Path
    config: TrainConfig
    step: int
    """Steps done before."""


class Callback:
    """Does nothing; a subclass defines what it needs.

    Attributes:
        every: steps between calls of `on_step`.
        reads_state: whether `on_step` is given the state. The devices then wait for it at those steps.
    """

    every: int = 1
    reads_state: bool = False

    def on_start(self, run: RunStart) -> None:
        """The first step comes next."""

    def on_step(self, step: int, numbers: Mapping[str, Any], state: Any) -> Mapping[str, float] | None:
        """Step `step` (counted from 1) is done.

        Args:
            numbers: what is logged of it, such as `loss`.
            state: the `TrainState` after it, where `reads_state`; else None. Its arrays must not be kept: the next step
                takes their memory.

        Returns:
            more numbers of the step to log, by name.
        """
        return None

    def on_end(self, step: int) -> None:
        """The run has ended, or stops for now, with `step` steps done. It is not called where something failed."""


def callbacks_of(places: Sequence[str]) -> list[Callback]:
    """The callbacks that a configuration names.

    Args:
        places: `FILE.py:NAME` or `MODULE:NAME` of a subclass of `Callback` that is made without arguments, or of one.

    Raises:
        UserError: there is no such callback.
    """
    found: list[Callback] = []
    for place in places:
        what: Any = user_code.load(place) if user_code.is_place(place) else None
        if isinstance(what, type) and issubclass(what, Callback):
            what = what()
        if not isinstance(what, Callback):
            raise errors.no_callback(place)
        found.append(what)
    return found
