"""The weights that a new run starts from: those of a model folder, kept as the run's checkpoint of step 0, or none.

Every run asks for them when it starts, so what reads a model folder is imported only where one is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from levanter.checkpoint import Location, Manifest, load
from levanter.runtime.state import base_shape, flat_names, from_flat_names

if TYPE_CHECKING:
    from levanter.config import TrainConfig

MODEL = "model."
"""In front of the name of each array of the model in a checkpoint."""
IMPORTED = "imported"
"""The key in the metadata of a checkpoint of imported weights."""


def is_imported(manifest: Manifest) -> bool:
    """Whether a checkpoint holds imported weights and no state of training."""
    return IMPORTED in manifest.metadata


def starting_model(config: TrainConfig, run_dir: Path, checkpoint: Location | None, shardings: Any = None) -> Any:
    """The weights that a new run starts from, on devices, or None where it starts from random ones.

    Args:
        checkpoint: the imported weights of the run directory, where it has them.
        shardings: a tree of shardings with the structure of the model, its adapter included.

    Returns: the model without its adapter.

    Raises:
        UserError: the weights do not fit the model, or cannot be had.
    """
    source = config.model.initialize_from
    if checkpoint is None and source is None:
        return None
    like = base_shape(config)
    if shardings is not None:
        shardings = from_flat_names(like, flat_names(shardings))
    if checkpoint is not None:
        layouts = None if shardings is None else _prefixed(shardings)
        arrays = load(checkpoint, like=_prefixed(like), shardings=layouts)
        return from_flat_names(like, {name.removeprefix(MODEL): array for name, array in arrays.items()})
    assert source is not None

    from levanter.hf.folder import open_folder
    from levanter.hf.importing import import_model
    from levanter.hf.kept import keep

    folder = open_folder(source)
    keep(folder, run_dir)
    return import_model(folder, config.model, like, shardings)


def _prefixed(model: Any) -> dict[str, Any]:
    return {f"{MODEL}{name}": leaf for name, leaf in flat_names(model).items()}
