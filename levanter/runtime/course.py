"""What the steps of a run follow besides its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from levanter.runtime import environment, rewinds
from levanter.runtime.nonfinite import Watch
from levanter.runtime.rewinds import Rewinds

UNLOGGED = "unlogged"
"""Where the metadata of a checkpoint has the numbers of its step, where a signal cut its evaluation short: they are
recorded when the run resumes and evaluates."""


@dataclass(frozen=True)
class Course:
    """Which data a run leaves out, what its checkpoints say of it, and what it looks at.

    Attributes:
        environment: see `levanter.runtime.environment`; kept in every checkpoint.
        unlogged: the numbers of the step that is resumed from, where they are still to be recorded.
    """

    rewinds: Rewinds = field(default_factory=Rewinds)
    environment: Mapping[str, Any] = field(default_factory=dict)
    watch: Watch = field(default_factory=lambda: Watch("stop"))
    unlogged: Mapping[str, Any] | None = None

    def metadata(self, step: int, unlogged: Mapping[str, Any] | None) -> dict[str, Any]:
        """What a checkpoint of `step` says of the run."""
        skipped = self.rewinds.before(step)
        return {
            **({environment.KEY: dict(self.environment)} if self.environment else {}),
            **({rewinds.KEY: skipped} if skipped else {}),
            **({UNLOGGED: dict(unlogged)} if unlogged is not None else {}),
        }
