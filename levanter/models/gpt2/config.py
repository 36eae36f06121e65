"""What a GPT-2 is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, above, at_least, fraction, number, word
from levanter.models import errors
from levanter.models.config import COMPUTE_DTYPES, LOGITS_DTYPES, ModelConfig, axis, vocab_axis

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.lm_model import LmModel


@dataclass(frozen=True)
class Gpt2Config(ModelConfig):
    """GPT-2 (Radford et al., 2019). The defaults are GPT-2 small."""

    hidden_dim: int = number(768, SIZE)
    """Size of axis `embed`, the residual stream."""
    num_heads: int = number(12, SIZE)
    """Size of axis `heads`; `head_size` is hidden_dim / num_heads."""
    num_layers: int = number(12, SIZE)
    """Size of axis `layers`."""
    mlp_scale: int = number(4, SIZE)
    """Axis `mlp` is this many times `embed`."""
    dropout: float = number(0.0, fraction())
    """Probability that a value of the embedding or of a branch's output is dropped while training."""
    layer_norm_epsilon: float = number(1e-5, above(0))
    """Added to the variance in a layer norm, so that a constant input is not divided by 0."""
    initializer_range: float = number(0.02, above(0))
    """Standard deviation of the initial weights; branch outputs are scaled down by sqrt(2 * num_layers) besides."""
    z_loss: float = number(0.0, at_least(0))
    """Training adds this times the squared logarithm of softmax's normalizer to the loss; 1e-4 is usual."""
    tie_word_embeddings: bool = True
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_dim % self.num_heads:
            raise errors.heads_do_not_divide(self.hidden_dim, self.num_heads)

    @property
    def Vocab(self) -> Axis:
        return vocab_axis(self.vocab_size, self.vocab_multiple)

    @property
    def KeyPos(self) -> Axis:
        return axis("key_position", self.seq_len)

    @property
    def Embed(self) -> Axis:
        return axis("embed", self.hidden_dim)

    @property
    def Mlp(self) -> Axis:
        return axis("mlp", self.hidden_dim * self.mlp_scale)

    @property
    def Heads(self) -> Axis:
        return axis("heads", self.num_heads)

    @property
    def HeadSize(self) -> Axis:
        return axis("head_size", self.hidden_dim // self.num_heads)

    @property
    def Layers(self) -> Axis:
        return axis("layers", self.num_layers)

    def build(self, Vocab: Axis, *, key: Any) -> LmModel:
        from levanter.models.gpt2.gpt2 import Gpt2LMHeadModel

        return Gpt2LMHeadModel.init(self, Vocab, key=key)
