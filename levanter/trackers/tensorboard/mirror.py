"""Event files for TensorBoard, as a mirror of `metrics.jsonl`.

A resumed run opens a file of its own and says from which step on: TensorBoard then forgets what an earlier file has of
the same steps, so a run that was killed shows one line and not several.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import yaml

from levanter.optional import require
from levanter.trackers.scalars import Scalar, plain
from levanter.trackers.tracker import Tracker


class TensorboardMirror(Tracker):
    """Writes event files into `folder`.

    Args:
        config: the resolved config as nested plain data, shown as a text.
        resumed_step: steps done before.

    Raises:
        UserError: tensorboardX is not installed.
    """

    def __init__(self, folder: str, config: Mapping[str, Any], resumed_step: int) -> None:
        library = require("tensorboardX", "the tracker tensorboard (trackers.tensorboard.enabled)", "tensorboard")
        logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)  # it warns of every NaN
        self._writer: Any = library.SummaryWriter(
            folder,
            purge_step=resumed_step + 1 if resumed_step else None,
            filename_suffix=f".{resumed_step}",  # its own name for a file is the second that it was made in
        )
        text = "".join(f"    {line}\n" for line in yaml.safe_dump(dict(config), sort_keys=False).splitlines())
        self._writer.add_text("config", text, global_step=resumed_step)

    def log(self, step: int, metrics: Mapping[str, Scalar]) -> None:
        """Mirror the record of `step`."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, float(plain(value)), global_step=step)

    def sync(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
