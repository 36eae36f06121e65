"""The section `trackers` of a configuration: one section for each tracker of the registry, by its name."""

from __future__ import annotations

from dataclasses import field, make_dataclass
from typing import TYPE_CHECKING, Any

from levanter.registry import TRACKERS

if TYPE_CHECKING:

    class TrackersConfig:
        def __getattr__(self, name: str) -> Any: ...

else:
    # A new tracker is one line in the registry: its section follows from that line.
    TrackersConfig = make_dataclass(
        "TrackersConfig",
        [(name, config, field(default_factory=config)) for name, config in TRACKERS.items()],
        namespace={"__module__": __name__, "__doc__": "Where the numbers of a run go, a section for each tracker."},
        frozen=True,
    )
