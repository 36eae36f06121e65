"""What LoRA is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levanter.adapters import errors
from levanter.adapters.config import AdapterConfig
from levanter.fields import SIZE, above, fraction, number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from levanter.models.config import ModelConfig
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class LoraConfig(AdapterConfig):
    """LoRA (Hu et al., 2021): beside the weight of a linear layer the product of two thin matrices is trained."""

    rank: int = number(8, SIZE)
    """Size of axis `lora_rank`, between the two matrices."""
    alpha: float = number(16.0, above(0))
    """The product counts alpha / rank times."""
    rank_stabilized: bool = False
    """Whether it counts alpha / sqrt(rank) times instead (Kalajdzievski, 2023)."""
    targets: list[str] = field(default_factory=lambda: ["*.attention.*"])
    """The linear layers that get an adapter: patterns of their names, such as *.mlp.up, or names of axes of their
    inputs or outputs, such as mlp."""
    dropout: float = number(0.0, fraction())
    """Probability that an input of an adapter is dropped while training; the same ones for all tokens of a batch."""
    initialize_from: str | None = None
    """A folder with an adapter to start from, as `peft` writes it; null starts from one that changes nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.targets:
            raise errors.no_layers()

    @property
    def scale(self) -> float:
        """What the product of the two matrices is multiplied by."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilized else self.rank)

    @property
    def drops_out(self) -> bool:
        return self.dropout > 0.0

    def adapted(self, model: LmModel, key: Any) -> LmModel:
        from levanter.adapters.lora.lora import adapted

        return adapted(self, model, key)

    def is_adapter(self, name: str) -> bool:
        return name.rpartition(".")[2] in ("lora_a", "lora_b")

    def merged(self, model: Any) -> Any:
        from levanter.adapters.lora.lora import merged

        return merged(model)

    def layers(self, model: Any) -> dict[str, Any]:
        from levanter.adapters.lora.lora import Adapted, linear_layers

        return {name: layer for name, layer in linear_layers(model).items() if isinstance(layer, Adapted)}

    def starting_arrays(self, model: ModelConfig, base: Any, adapted: Any) -> Mapping[str, Any]:
        if self.initialize_from is None:
            return {}
        from levanter.adapters.lora.peft import read_adapter
        from levanter.hf.table import table_of

        folder = Path(self.initialize_from).expanduser()
        return read_adapter(folder, self, self.layers(adapted), table_of(model, base))

    def dropped(self, model: Any, key: Any) -> Any:
        from levanter.adapters.lora.lora import dropped

        return dropped(model, self.dropout, key)
