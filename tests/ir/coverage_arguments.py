"""What the expressions of the coverage tables may mention: modules, named arguments, and a few functions.

Sizes repeat on purpose (almost everything is 4 long), so that only unification can tell the dims apart.
"""

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax, nn, random
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas, sparse
from jax.nn import initializers
from jax.numpy import fft, linalg
from jax.scipy import linalg as slinalg
from jax.scipy import signal, special
from jax.scipy.sparse import linalg as sparse_linalg
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from step_models import shaped

INT, BOOL, COMPLEX = jnp.int32, jnp.bool_, jnp.complex64
KEY = random.key(0).dtype

ARGUMENTS = {
    "s": shaped(""),
    "a": shaped("", dtype=INT),
    "u": shaped("batch", 4),
    "v": shaped("embed", 4),
    "j": shaped("batch", 4, dtype=INT),
    "x": shaped("batch embed", 4, 4),
    "y": shaped("batch embed", 4, 4),
    "w": shaped("embed mlp", 4, 4),
    "i": shaped("batch position", 4, 4, dtype=INT),
    "n": shaped("batch embed", 4, 4, dtype=INT),
    "m": shaped("batch embed", 4, 4, dtype=INT),
    "b": shaped("batch embed", 4, 4, dtype=BOOL),
    "c": shaped("batch embed", 4, 4, dtype=COMPLEX),
    "t": shaped("batch position embed", 4, 4, 4),
    "q": shaped("row column", 4, 4),
    "r": shaped("row", 4),
    "z": jax.ShapeDtypeStruct((4, 4), jnp.float32),  # a matrix over one space: two dims of one name cannot be
    "z3": jax.ShapeDtypeStruct((4, 4, 4), jnp.float32),
    "o": shaped("other embed", 4, 4),
    "p": shaped("other", 4, dtype=INT),
    "qc": shaped("column right", 4, 4),
    "qr": shaped("row right", 4, 4),
    "h": shaped("batch row column", 4, 4, 4),
    "hc": shaped("batch column right", 4, 4, 4),
    "hr": shaped("batch row right", 4, 4, 4),
    "k": shaped("", dtype=KEY),
    "keys": shaped("batch", 4, dtype=KEY),
    "table": shaped("vocab embed", 4, 4),
    "experts": shaped("experts embed mlp", 4, 4, 4),
    "groups": shaped("experts", 4, dtype=INT),
    "query": shaped("batch position heads head_size", 4, 4, 4, 4),
    "key": shaped("batch key_position heads head_size", 4, 4, 4, 4),
    "value": shaped("batch key_position heads head_size", 4, 4, 4, 4),
    "grouped_key": shaped("batch key_position kv_heads head_size", 4, 4, 2, 4),
    "grouped_value": shaped("batch key_position kv_heads head_size", 4, 4, 2, 4),
    "bias": shaped("batch heads position key_position", 4, 4, 4, 4),
    "image": shaped("batch height width channels", 4, 8, 8, 4),
    "kernel": shaped("kernel_height kernel_width channels out", 3, 3, 4, 4),
    "patches": shaped("patch_height patch_width channels out", 2, 2, 4, 4),
    "pointwise": shaped("one one2 channels out", 1, 1, 4, 4),
    "depthwise": shaped("kernel_height kernel_width one channels", 3, 3, 1, 4),
    "grouped": shaped("kernel_height kernel_width group_channels out", 3, 3, 2, 4),
    "nchw": shaped("batch channels height width", 4, 4, 8, 8),
    "oihw": shaped("out channels kernel_height kernel_width", 4, 4, 3, 3),
    "local": shaped("out window height width", 4, 36, 6, 6),
}


@jax.custom_jvp
def custom_jvp(x):
    return jnp.sin(x)


custom_jvp.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), jnp.cos(primals[0]) * tangents[0]))


def _custom_vjp(optimize_remat):
    @jax.custom_vjp
    def function(x):
        return jnp.sin(x)

    function.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),), optimize_remat=optimize_remat)
    return function


@jax.custom_batching.custom_vmap
def custom_vmap(x):
    return jnp.sin(x)


custom_vmap.def_vmap(lambda size, batched, x: (jnp.sin(x), batched[0]))


def shard(function, in_specs, out_specs, check_vma=False):
    """`function` on each of two devices."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=check_vma)


SCOPE = {
    "P": P,
    "checkpoint_name": checkpoint_name,
    "custom_jvp": custom_jvp,
    "custom_vjp": _custom_vjp(False),
    "custom_vmap": custom_vmap,
    "eqx": eqx,
    "eqxi": eqxi,
    "fft": fft,
    "initializers": initializers,
    "jax": jax,
    "jnp": jnp,
    "lax": lax,
    "linalg": linalg,
    "nn": nn,
    "np": np,
    "optax": optax,
    "pallas": pallas,
    "random": random,
    "remat_vjp": _custom_vjp(True),
    "shard": shard,
    "signal": signal,
    "slinalg": slinalg,
    "sparse_linalg": sparse_linalg,
    "sparse": sparse,
    "special": special,
}

LEFT_OUT = {
    # Text, files, other array libraries; dtypes and shapes; functions whose results' shapes depend on values.
    "jnp": "array_repr array_str from_dlpack frombuffer fromfile fromiter fromstring get_printoptions load "
    "printoptions save savez set_printoptions broadcast_shapes can_cast einsum_path iscomplexobj isdtype isrealobj "
    "isscalar issubdtype iterable ndim promote_types result_type shape size mask_indices trim_zeros",
    "linalg": "",
    "fft": "",
    "nn": "get_scaled_dot_general_config",
    # Shapes; what only talks to other devices in pairs; futures of collectives.
    "lax": "axis_size broadcast_shapes conv_dimension_numbers conv_general_permutations conv_general_shape_tuple "
    "conv_shape_tuple conv_transpose_shape_tuple dtype padtype_to_pads reduce_window_shape_tuple shape_as_value "
    "ConvGeneralDilatedDimensionNumbers PrecisionLike DotDimensionNumbers precv psend psum_scatter_start",
    "lax.linalg": "",
    "special": "",
    "slinalg": "",
    "signal": "",
    "random": "Key key_dtype key_impl",
    "jax.ops": "",
}
"""By module, the public functions that no table has."""
