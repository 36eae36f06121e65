"""What decoders in the manner of LLaMA are made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from levanter.fields import LARGEST_SIZE, SIZE, above, at_least, between, number, word
from levanter.models import errors
from levanter.models.config import COMPUTE_DTYPES, LOGITS_DTYPES, ModelConfig, axis, vocab_axis
from levanter.models.parts.rope_config import RopeConfig

if TYPE_CHECKING:
    from haliax import Axis


@dataclass(frozen=True)
class DecoderConfig(ModelConfig):
    """A decoder of attention with grouped queries and rotary positions, and gated MLPs. A family extends it."""

    hidden_dim: int = number(4096, SIZE)
    """Size of axis `embed`, the residual stream."""
    intermediate_dim: int = number(11008, SIZE)
    """Size of axis `mlp`."""
    num_layers: int = number(32, SIZE)
    """Size of axis `layers`."""
    num_heads: int = number(32, SIZE)
    """Heads of queries: the sizes of axes `kv_heads` and `group` multiplied."""
    num_kv_heads: int = number(32, SIZE)
    """Heads of keys and values, the size of axis `kv_heads`; each serves a group of query heads."""
    head_dim: int | None = number(None, SIZE)
    """Size of axis `head_size`; null means hidden_dim / num_heads."""
    rope: RopeConfig = field(default_factory=RopeConfig)
    max_positions: int | None = number(None, between(1, LARGEST_SIZE))
    """Positions that an exported checkpoint says it can read; null means `seq_len`."""
    norm_epsilon: float = number(1e-6, above(0))
    """Added to the mean square in a norm, so that a constant 0 is not divided by 0."""
    initializer_range: float = number(0.02, above(0))
    """Standard deviation of the initial weights; branch outputs are scaled down by sqrt(2 * num_layers) besides."""
    tie_word_embeddings: bool = False
    """Whether the token embedding is also the output head."""
    gradient_checkpointing: bool | None = True
    """Whether a block is computed again in the backward pass, so that only its input is kept; null lets the planner
    choose, also to keep a part (remat)."""
    vocab_multiple: int = number(128, SIZE)
    """Axis `vocab` is rounded up to a multiple of this, so that it divides over a mesh."""
    compute_dtype: str = word("float32", COMPUTE_DTYPES)
    """What matrix products are computed in; softmax, norms and the loss are always float32."""
    logits_dtype: str = word("float32", LOGITS_DTYPES)
    """What is kept of the scores of tokens for the backward pass; bfloat16 halves what is often the largest array."""
    z_loss: float = number(0.0, at_least(0))
    """Weight of the squared log-normalizer of the logits in the loss, which keeps it near 0; 0 leaves it out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_heads % self.num_kv_heads:
            raise errors.groups_do_not_divide(self.num_heads, self.num_kv_heads)
        if self.head_dim is None and self.hidden_dim % self.num_heads:
            raise errors.heads_do_not_divide(self.hidden_dim, self.num_heads)

    @property
    def Vocab(self) -> Axis:
        return vocab_axis(self.vocab_size, self.vocab_multiple)

    @property
    def Embed(self) -> Axis:
        return axis("embed", self.hidden_dim)

    @property
    def Mlp(self) -> Axis:
        return axis("mlp", self.intermediate_dim)

    @property
    def KvHeads(self) -> Axis:
        return axis("kv_heads", self.num_kv_heads)

    @property
    def Group(self) -> Axis:
        return axis("group", self.num_heads // self.num_kv_heads)

    @property
    def HeadSize(self) -> Axis:
        return axis("head_size", self.head_dim or self.hidden_dim // self.num_heads)

    @property
    def Layers(self) -> Axis:
        return axis("layers", self.num_layers)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """How many positions back each layer sees, its own among them; None where it sees all."""
        return (None,) * self.num_layers

    @property
    def logits_cap(self) -> float | None:
        """Bound of the logits, as in Gemma 2; None where there is none."""
        return None
