"""Published `haliax._src.einsum`."""

from haliax.ops.einops import einsum as einsum
