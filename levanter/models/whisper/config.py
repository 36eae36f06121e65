"""What a Whisper is made from, as plain data (no JAX here; see `levanter.models.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levanter.fields import SIZE, above, number, word
from levanter.models import errors
from levanter.models.config import COMPUTE_DTYPES, TaskConfig, axis, vocab_axis

if TYPE_CHECKING:
    from haliax import Axis
    from levanter.models.whisper.whisper import WhisperModel


@dataclass(frozen=True)
class WhisperConfig(TaskConfig):
    """Whisper (Radford et al., 2022), which writes down what is said. The defaults are Whisper tiny."""

    num_mel_bins: int = number(80, SIZE)
    """Size of axis `mel`, the frequencies of a spectrogram."""
    max_frames: int = number(1500, SIZE)
    """Size of axis `frame` behind the convolutions, which halve the frames of the spectrogram."""
    seq_len: int = number(448, SIZE)
    """Tokens of the longest text: the size of axis `position`."""
    vocab_size: int = number(51865, SIZE)
    """Token ids the model knows."""
    hidden_dim: int = number(384, SIZE)
    """Size of axis `embed`, the residual stream of the encoder and of the decoder."""
    encoder_mlp_dim: int = number(1536, SIZE)
    """Size of axis `mlp` in the encoder."""
    decoder_mlp_dim: int = number(1536, SIZE)
    """Size of axis `mlp` in the decoder."""
    encoder_layers: int = number(4, SIZE)
    """Size of axis `layers` in the encoder."""
    decoder_layers: int = number(4, SIZE)
    """Size of axis `layers` in the decoder."""
    encoder_heads: int = number(6, SIZE)
    """Size of axis `heads` in the encoder."""
    decoder_heads: int = number(6, SIZE)
    """Size of axis `heads` in the decoder."""
    initializer_range: float = number(0.02, above(0))
    """Standard deviation of the initial weights."""
    gradient_checkpointing: bool | None = True
    """Whether a block is computed again in the backward pass, so that only its input is kept; null lets the planner
    choose, also to keep a part (remat)."""
    vocab_multiple: int = number(128, SIZE)
    """Axis `vocab` is rounded up to a multiple of this, so that it divides over a mesh."""
    compute_dtype: str = word("float32", COMPUTE_DTYPES)
    """What matrix products are computed in; parameters, softmax, norms and the loss are always float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for heads in (self.encoder_heads, self.decoder_heads):
            if self.hidden_dim % heads:
                raise errors.heads_do_not_divide(self.hidden_dim, heads)

    @property
    def Mel(self) -> Axis:
        return axis("mel", self.num_mel_bins)

    @property
    def Frames(self) -> Axis:
        return axis("frame", self.max_frames)

    @property
    def Pos(self) -> Axis:
        return axis("position", self.seq_len)

    @property
    def Vocab(self) -> Axis:
        return vocab_axis(self.vocab_size, self.vocab_multiple)

    @property
    def Embed(self) -> Axis:
        return axis("embed", self.hidden_dim)

    def build(self, *, key: Any) -> WhisperModel:
        from levanter.models.whisper.whisper import WhisperModel

        return WhisperModel.init(self, key=key)
