"""Which implementation an attention gets: what was asked for, else what is best for platform, mask and size.

- GPU: cuDNN's kernel, by `jax.nn.dot_product_attention`, where it can do what is asked; it takes causal masks and
  windows that are constants, in half precision.
- TPU: Splash Attention, where the program is for one device: XLA cannot partition a kernel. So is a program on shards,
  as plans are carried out (`jax.shard_map`).
- Else, and on CPUs: the definition while all pairs of a query and a key are few, block by block from there on. On
  CPUs both take the same time at 256 to 512 positions; at 2048, block by block takes 0.8 times as long, forward and
  backward together, and a ninth of the memory at 8192.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from haliax import errors
from haliax.nn.attention import blockwise, library, reference, splash
from haliax.nn.attention.library import Library
from haliax.nn.attention.spec import Spec

BACKENDS: dict[str, Any] = {"reference": reference, "blockwise": blockwise, "jax": library, "splash": splash}
"""Modules with the functions `attention`, `backward` and `tangent` of a spec and arrays (`library` has them as methods
of a `Library`), and `refusal`, which says in words why it cannot do what is asked, or gives None."""

FEW_PAIRS = 512 * 512
"""Up to so many pairs of a query and a key, for each head of each batch, their scores may as well be an array."""


def kernel(spec: Spec, arrays: Sequence[Any], platform: str) -> str:
    """The kernel of a platform that computes an attention on one device: `cudnn`, `splash`, or none (``).

    It is what `chosen` takes, as far as that can be said where there is no such device.

    Args:
        spec: the attention.
        arrays: query, key and value, for their shapes and dtypes.
        platform: as JAX calls it.
    """
    by_library = spec.backend in ("auto", "jax") and platform == "cuda"
    if by_library and library.refusal(spec, arrays, platform) is None and library.fits_cudnn(spec, arrays):
        return "cudnn"
    by_splash = spec.backend in ("auto", "splash") and platform == "tpu"
    return "splash" if by_splash and splash.refusal(spec, arrays, platform) is None else ""


def chosen(spec: Spec, arrays: Sequence[Any], platform: str, devices: int | None = 1) -> Any:
    """The backend for a program that is compiled for a platform.

    Args:
        spec: the attention.
        arrays: query, key and value, for their shapes and dtypes.
        platform: as JAX calls it.
        devices: how many devices the program is for; None where nobody knows.

    Raises:
        ValueError: for a backend that was asked for and cannot do it.
    """
    if spec.backend != "auto":
        backend = BACKENDS[spec.backend]
        refusal = backend.refusal(spec, arrays, platform)
        if refusal is not None:
            raise errors.backend_refuses(spec.backend, refusal)
        return Library.on(platform, spec, arrays) if backend is library else backend
    if library.refusal(spec, arrays, platform) is None:
        kernel = Library.on(platform, spec, arrays)
        if kernel.implementation == "cudnn":
            return kernel
    if platform == "tpu" and devices == 1 and splash.refusal(spec, arrays, platform) is None:
        return splash
    sizes = spec.sizes(arrays)
    queries = 1
    for label in spec.free:
        queries = max(queries, sizes[label])
    return reference if queries * sizes[spec.keys] <= FEW_PAIRS else blockwise
