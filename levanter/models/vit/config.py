"""What a vision transformer is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, above, number, word
from levanter.models import errors
from levanter.models.config import COMPUTE_DTYPES, TaskConfig, axis

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.vit.vit import VitClassifier


@dataclass(frozen=True)
class VitConfig(TaskConfig):
    """ViT (Dosovitskiy et al., 2021), which says what an image shows. The defaults are ViT-B/16 for ImageNet."""

    image_size: int = number(224, SIZE)
    """Sizes of axes `height` and `width`."""
    patch_size: int = number(16, SIZE)
    """Height and width of a patch; each patch is one place of the sequence."""
    num_channels: int = number(3, SIZE)
    """Size of axis `channels`."""
    num_labels: int = number(1000, SIZE)
    """Size of axis `labels`."""
    hidden_dim: int = number(768, SIZE)
    """Size of axis `embed`, the residual stream."""
    intermediate_dim: int = number(3072, SIZE)
    """Size of axis `mlp`."""
    num_layers: int = number(12, SIZE)
    """Size of axis `layers`."""
    num_heads: int = number(12, SIZE)
    """Size of axis `heads`; `head_size` is hidden_dim / num_heads."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    layer_norm_epsilon: float = number(1e-12, above(0))
    """Added to the variance in a layer norm, so that a constant input is not divided by 0."""
    initializer_range: float = number(0.02, above(0))
    """Standard deviation of the initial weights."""
    gradient_checkpointing: bool | None = True
    """Whether a block is computed again in the backward pass, so that only its input is kept; null lets the planner
    choose, also to keep a part (remat)."""
    compute_dtype: str = word("float32", COMPUTE_DTYPES)
    """What matrix products are computed in; parameters, softmax, norms and the loss are always float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_dim % self.num_heads:
            raise errors.heads_do_not_divide(self.hidden_dim, self.num_heads)
        if self.image_size % self.patch_size:
            raise errors.patches_do_not_divide(self.image_size, self.patch_size)

    @property
    def Image(self) -> tuple[Axis, Axis, Axis]:
        return axis("height", self.image_size), axis("width", self.image_size), axis("channels", self.num_channels)

    @property
    def Patch(self) -> tuple[Axis, Axis]:
        return axis("patch_height", self.patch_size), axis("patch_width", self.patch_size)

    @property
    def Pos(self) -> Axis:
        """The patches, and the place before them that the label is read from."""
        return axis("position", (self.image_size // self.patch_size) ** 2 + 1)

    @property
    def Labels(self) -> Axis:
        return axis("labels", self.num_labels)

    @property
    def Embed(self) -> Axis:
        return axis("embed", self.hidden_dim)

    @property
    def Mlp(self) -> Axis:
        return axis("mlp", self.intermediate_dim)

    @property
    def Heads(self) -> Axis:
        return axis("heads", self.num_heads)

    @property
    def Layers(self) -> Axis:
        return axis("layers", self.num_layers)

    def build(self, *, key: Any) -> VitClassifier:
        from levanter.models.vit.vit import VitClassifier

        return VitClassifier.init(self, key=key)
