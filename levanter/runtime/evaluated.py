"""The weights of a checkpoint as they are evaluated: means of weights in the place of trained ones, adapters merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import jax
import numpy as np

from levanter.checkpoint import Location, load, read_array, read_manifest
from levanter.config.schema import TrainConfig
from levanter.runtime.state import base_shape, evaluated_model, flat_names, from_flat_names, state_shape

_MODEL = "model."


def load_evaluated(config: TrainConfig, checkpoint: Location, shardings: Any = None) -> Any:
    """The model of a checkpoint as it is evaluated, on devices, with its adapter in its tree.

    Args:
        shardings: a tree of shardings with the structure of the model; None puts all on the default device.

    Raises:
        UserError: see `levanter.checkpoint.load`.
    """
    like = state_shape(config)
    layouts = None if shardings is None else {f"{_MODEL}{name}": leaf for name, leaf in flat_names(shardings).items()}
    if not config.optimizer.averages:
        wanted = {f"{_MODEL}{name}": leaf for name, leaf in flat_names(like.model).items()}
        arrays = load(checkpoint, like=wanted, shardings=layouts, part=_MODEL)
        return from_flat_names(like.model, {name.removeprefix(_MODEL): array for name, array in arrays.items()})
    # Where the mean lies depends on the optimizer, so its whole state is read.
    state = from_flat_names(like, load(checkpoint, like=flat_names(like)))
    model = evaluated_model(config, state)
    if shardings is None:
        return model
    return jax.device_put(model, shardings)


class EvaluatedArrays(Mapping[str, Any]):
    """The arrays of the model of a checkpoint by name, each made when it is asked for, with its adapter merged."""

    def __init__(self, config: TrainConfig, checkpoint: Location) -> None:
        self._config, self._path = config, checkpoint
        self._records = read_manifest(checkpoint).arrays
        self._names = list(flat_names(base_shape(config)))

    def __getitem__(self, name: str) -> np.ndarray:
        adapter, layer = self._config.adapter, name.removesuffix(".weight")
        if adapter is None or layer not in self._adapted:
            return self._read(name)
        like = self._adapted[layer]
        arrays = {each: self._read(f"{layer}.{each}") for each in flat_names(like)}
        return np.asarray(adapter.merged(from_flat_names(like, arrays)).weight.array)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def adapter(self) -> dict[str, np.ndarray]:
        """The arrays of the adapter alone, by name."""
        adapter = self._config.adapter
        names = flat_names(state_shape(self._config).model)
        return {name: self._read(name) for name in names if adapter is not None and adapter.is_adapter(name)}

    def _read(self, name: str) -> np.ndarray:
        if self._config.optimizer.averages:
            return np.asarray(self._evaluated[name])
        return read_array(self._path, f"{_MODEL}{name}", self._records[f"{_MODEL}{name}"])

    @cached_property
    def _adapted(self) -> dict[str, Any]:
        """The layers with an adapter by name, as shapes."""
        assert self._config.adapter is not None
        return self._config.adapter.layers(state_shape(self._config).model)

    @cached_property
    def _evaluated(self) -> dict[str, Any]:
        return flat_names(load_evaluated(self._config, self._path))
