"""Published `haliax._src.rearrange`."""

from haliax.ops.einops import rearrange as einops_rearrange
from haliax.ops.einops import rearrange as rearrange
from haliax.ops.shape import reordered as axis_spec_rearrange

__all__ = ["axis_spec_rearrange", "einops_rearrange", "rearrange"]
