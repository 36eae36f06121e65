"""Several sources, mixed by weights, as plain data (no data set library here)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from levanter.data.config import DataConfig
from levanter.data.sources.mixture import errors
from levanter.fields import COUNT, check, number

if TYPE_CHECKING:
    from levanter.data.corpus import Corpus
    from levanter.data.token_data import TokenData


@dataclass(frozen=True)
class Stage:
    """From a step on, the weights are others."""

    from_step: int = number(0, COUNT)
    """The first step of the stage, counted from 0."""
    weights: dict[str, float] = field(default_factory=dict)
    """The weight of each source by name; those that are not named have none."""

    def __post_init__(self) -> None:
        check(self, "data.schedule")


@dataclass(frozen=True)
class MixtureDataConfig(DataConfig):
    """Several sources, each with a tokenized text, a held-out share and an order of its own, mixed by weights.

    The rows of a batch are shared out by the weights, so exactly that no source is ever two rows away from its share.
    The tokenizer, `cache_dir` and `packing` are those of the mixture for all of them; so is `shuffle_block` for those
    that have none of their own.
    """

    sources: dict[str, DataConfig] = field(default_factory=dict)
    """The sources by names of one's own, each a section as `data` is."""
    weights: dict[str, float] = field(default_factory=dict)
    """The weight of each source by name: shares of the rows, in any unit. Empty weighs all the same."""
    schedule: list[Stage] = field(default_factory=list)
    """Other weights from some step on: `{from_step: 1000, weights: {books: 1, code: 3}}`, in the order of the steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, source in self.sources.items():
            if isinstance(source, MixtureDataConfig):
                raise errors.nested(name)
            if source.tokenizer not in ("gpt2", self.tokenizer):
                raise errors.other_tokenizer(name, source.tokenizer, self.tokenizer)
            if source.packing not in ("stream", self.packing):
                raise errors.other_packing(name, source.packing, self.packing)
        if not self.sources:
            return
        _check_weights("data.weights", self.weights, self.sources, may_be_empty=True)
        last = 0
        for place, stage in enumerate(self.schedule):
            where = f"data.schedule.{place}"
            if stage.from_step <= last:
                raise errors.stages_in_disorder(where, stage.from_step, last)
            last = stage.from_step
            _check_weights(f"{where}.weights", stage.weights, self.sources)

    def corpus(self) -> Corpus:
        from levanter.data.sources.mixture.corpus import MixtureCorpus

        self._required()
        return MixtureCorpus({name: source.corpus() for name, source in self.sources.items()})

    def batches(self, *, seq_len: int, seed: int, batch_size: int, notify: Callable[[str], None]) -> TokenData:
        from levanter.data.sources.mixture.mixture_data import MixtureData

        self._required()
        made = {
            name: part.batches(seq_len=seq_len, seed=seed, batch_size=batch_size, notify=notify)
            for name, part in self.parts().items()
        }
        return MixtureData(made, self.stages(), batch_size=batch_size)

    def parts(self) -> dict[str, DataConfig]:
        return {name: self._completed(source) for name, source in self.sources.items()}

    def stages(self) -> list[tuple[int, dict[str, float]]]:
        """From which step on there are which weights."""
        first = self.weights or dict.fromkeys(self.sources, 1.0)
        return [(0, dict(first)), *((stage.from_step, dict(stage.weights)) for stage in self.schedule)]

    def _completed(self, source: DataConfig) -> DataConfig:
        own = source.cache_dir if source.cache_dir is not None else self.cache_dir
        block = source.shuffle_block or (self.shuffle_block if source.by_blocks else None)
        shared = {"tokenizer": self.tokenizer, "packing": self.packing}
        return dataclasses.replace(source, cache_dir=own, shuffle_block=block, **shared)

    def _required(self) -> None:
        if not self.sources:
            raise errors.no_sources()


def _check_weights(
    where: str, weights: Mapping[str, float], sources: Mapping[str, DataConfig], may_be_empty: bool = False
) -> None:
    for name, weight in weights.items():
        if name not in sources:
            raise errors.unknown_source(where, name, sources)
        if not 0 <= weight < float("inf"):
            raise errors.bad_weight(f"{where}.{name}", weight)
    if not sum(weights.values()) and not (may_be_empty and not weights):
        raise errors.no_weight(where)
