"""One small function per rule: what its graph says, line by line. Names come from the arguments alone; sizes repeat on
purpose, so that only unification can tell the dims apart. Control flow is in test_control.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from rule_cases import BE, IDS, INDEX, case, traced
from step_models import shaped

CASES = [
    case("add", lambda x, y: x + y, (BE, BE), "%2: f32[batch=4, embed=4] = map.add(%0, %1)\n"),
    case(
        "size 1 broadcasts against anything",
        lambda x, y: x + y,
        (BE, shaped("batch one", 4, 1)),
        "%2: f32[batch=4, embed=4] = map.add(%0, %1)\n",
    ),
    case(
        "scalars go with anything",
        lambda x: x * 2.0 + 1,
        (BE,),
        """
        %1: f32[batch=4, embed=4] = map.mul(%0, 2.0:f32[])
        %2: f32[batch=4, embed=4] = map.add(%1, 1.0:f32[])
        """,
    ),
    case(
        "select",
        lambda x, y: jnp.where(x > 0, x, y),
        (BE, BE),
        """
        %2: bool[batch=4, embed=4] = map.gt(%0, 0.0:f32[])
        %3: f32[batch=4, embed=4] = map.select_n(%2, %1, %0)
        """,
    ),
    case(
        "a row against a matrix",
        lambda x, y: x + y,
        (BE, shaped("embed", 4)),
        """
        %2: f32[_=1, embed=4] = broadcast(%1)
        %3: f32[batch=4, embed=4] = map.add(%0, %2)
        """,
    ),
    case(
        "a reshape that reads its operand in another order",
        lambda x: lax.reshape(x, (16,), (1, 0)),
        (BE,),
        "%1: f32[embed*batch=16] = reshape.reshape(%0) along=[embed=4, batch=4] order=[embed=4, batch=4]\n",
    ),
    case(
        "dot_general",
        lambda x, w: x @ w,
        (BE, shaped("embed mlp", 4, 4)),
        "%2: f32[batch=4, mlp=4] = contract(%0, %1) over=[embed=4]\n",
    ),
    case(
        "dot_general with batch dims",
        lambda q, k: jnp.einsum("bhsd,bhtd->bhst", q, k),
        (shaped("batch heads position size", 4, 4, 4, 4), shaped("batch heads key_position size", 4, 4, 4, 4)),
        "%2: f32[batch=4, heads=4, position=4, key_position=4] = contract(%0, %1) over=[size=4]\n",
    ),
    case(
        "an unnamed operand is named by what it is contracted with",
        lambda x: (x @ jnp.ones((4, 3))).sum(0),
        (BE,),
        """
        %1: f32[embed=4, broadcast~1=3] = broadcast(1.0:f32[])
        %2: f32[batch=4, broadcast~1=3] = contract(%0, %1) over=[embed=4]
        %3: f32[broadcast~1=3] = reduce.sum(%2) over=[batch=4]
        """,
    ),
    case("reduce", lambda x: x.sum(1), (BE,), "%1: f32[batch=4] = reduce.sum(%0) over=[embed=4]\n"),
    case("argmax", lambda x: jnp.argmax(x, 0), (BE,), "%1: i32[embed=4] = reduce.argmax(%0) over=[batch=4]\n"),
    case(
        "cumsum",
        lambda x: jnp.cumsum(x, 1),
        (BE,),
        "%1: f32[batch=4, embed=4] = cumulate.cumsum(%0) along=[embed=4]\n",
    ),
    case("sort", lambda x: jnp.sort(x, 1), (BE,), "%1: f32[batch=4, embed=4] = sort.sort(%0) along=[embed=4]\n"),
    case(
        "top_k",
        lambda x: lax.top_k(x, 2),
        (BE,),
        """
        %1: f32[batch=4, top_k~1=2],
        %2: i32[batch=4, top_k~1=2] = sort.top_k(%0) along=[embed=4]
        """,
    ),
    case("transpose", lambda x: x.T, (BE,), "%1: f32[embed=4, batch=4] = reshape.transpose(%0)\n"),
    case(
        "broadcast",
        lambda x: jnp.broadcast_to(x, (4, 4, 4)),
        (BE,),
        "%1: f32[broadcast~1=4, batch=4, embed=4] = broadcast(%0)\n",
    ),
    case(
        "merging and splitting back gives the parts back",
        lambda x: x.reshape(8, 5).reshape(2, 4, 5),
        (shaped("heads size embed", 2, 4, 5),),
        """
        %1: f32[heads*size=8, embed=5] = reshape.reshape(%0) along=[heads=2, size=4]
        %2: f32[heads=2, size=4, embed=5] = reshape.reshape(%1) along=[heads*size=8]
        """,
    ),
    case(
        "splitting otherwise than it was merged forgets",
        lambda x: x.reshape(4, 2, 5),
        (shaped("heads size embed", 2, 4, 5),),
        "%1: f32[heads*size/0=4, heads*size/1=2, embed=5] = reshape.reshape(%0) along=[heads=2, size=4]\n",
    ),
    case(
        "dims of size 1 come and go",
        lambda x: x.reshape(4, 1, 4)[:, 0],
        (BE,),
        """
        %1: f32[batch=4, _=1, embed=4] = reshape.reshape(%0)
        %2: f32[batch=4, embed=4] = reshape.squeeze(%1)
        """,
    ),
    case("slice", lambda x: x[:, 1:3], (BE,), "%1: f32[batch=4, embed[1:3]=2] = slice.static(%0) along=[embed=4]\n"),
    case(
        "dynamic_slice",
        lambda x, i: lax.dynamic_slice(x, (0, i), (4, 2), allow_negative_indices=False),
        (BE, INDEX),
        "%2: f32[batch=4, embed=2] = slice.dynamic(%0, 0:i32[], %1) along=[embed=4]\n",
    ),
    case(
        "dynamic_update_slice",
        lambda x, u, i: lax.dynamic_update_slice(x, u, (0, i), allow_negative_indices=False),
        (shaped("batch position", 4, 8), shaped("batch one", 4, 1), INDEX),
        "%3: f32[batch=4, position=8] = slice.update(%0, %1, 0:i32[], %2) along=[position=8]\n",
    ),
    case("rev", lambda x: x[:, ::-1], (BE,), "%1: f32[batch=4, embed=4] = slice.reverse(%0) along=[embed=4]\n"),
    case(
        "pad",
        lambda x: lax.pad(x, 0.0, ((0, 0, 0), (1, 0, 0))),
        (BE,),
        "%1: f32[batch=4, embed=5] = pad(%0, 0.0:f32[]) along=[embed=4]\n",
    ),
    case(
        "concatenate",
        lambda x, y: jnp.concatenate([x, y], 1),
        (BE, BE),
        "%2: f32[batch=4, embed=8] = concat(%0, %1) along=[embed=4]\n",
    ),
    case(
        "stack",
        lambda x, y: jnp.stack([x, y], 1),
        (BE, BE),
        "%2: f32[batch=4, stack~1=2, embed=4] = concat.stack(%0, %1) along=[stack~1=2]\n",
    ),
    case(
        "unstack",
        lambda x: jnp.unstack(x, axis=1),
        (shaped("batch qkv embed", 4, 2, 4),),
        """
        %1: f32[batch=4, embed=4],
        %2: f32[batch=4, embed=4] = slice.unstack(%0) along=[qkv=2]
        """,
    ),
    case(
        "split",
        lambda x: jnp.split(x, 2, 1),
        (BE,),
        """
        %1: f32[batch=4, embed[0:2]=2],
        %2: f32[batch=4, embed[2:4]=2] = slice.split(%0) along=[embed=4]
        """,
    ),
    case(
        "a lookup of rows",
        lambda w, i: w.at[i].get(mode="clip"),
        (shaped("vocab embed", 8, 4), IDS),
        """
        %2: bool[batch=2, position=3] = map.lt(%1, 0:i32[])
        %3: i32[batch=2, position=3] = map.add(%1, 8:i32[])
        %4: i32[batch=2, position=3] = map.select_n(%2, %1, %3)
        %5: i32[batch=2, position=3, _=1] = broadcast(%4)
        %6: f32[batch=2, position=3, embed=4] = gather.take(%0, %5) along=[vocab=8]
        """,
    ),
    case(
        "a lookup of columns",
        lambda w, i: jnp.take(w, i, axis=1)[0],
        (shaped("embed vocab", 4, 8), IDS),
        """
        %2: bool[batch=2, position=3] = map.lt(%1, 0:i32[])
        %3: i32[batch=2, position=3] = map.add(%1, 8:i32[])
        %4: i32[batch=2, position=3] = map.select_n(%2, %1, %3)
        %5: i32[batch=2, position=3, _=1] = broadcast(%4)
        %6: f32[embed=4, batch=2, position=3] = gather.take(%0, %5) along=[vocab=8]
        %7: f32[embed[0:1]=1, batch=2, position=3] = slice.static(%6) along=[embed=4]
        %8: f32[batch=2, position=3] = reshape.squeeze(%7)
        """,
    ),
    case(
        "a lookup whose batch dims are paired",
        lambda w, i: jnp.take_along_axis(w, i, 1),
        (shaped("batch vocab", 4, 8), shaped("batch k", 4, 3, dtype=jnp.int32)),
        """
        %2: bool[batch=4, k=3] = map.lt(%1, 0:i32[])
        %3: i32[batch=4, k=3] = map.add(%1, 8:i32[])
        %4: i32[batch=4, k=3] = map.select_n(%2, %1, %3)
        %5: i32[batch=4, k=3, _=1] = reshape.reshape(%4)
        %6: f32[batch=4, k=3] = gather.take(%0, %5) along=[vocab=8]
        """,
    ),
    case(
        "scatter-add",
        lambda w, i, u: w.at[i].add(u, mode="drop"),
        (shaped("vocab embed", 8, 4), IDS, shaped("batch position embed", 2, 3, 4)),
        """
        %3: bool[batch=2, position=3] = map.lt(%1, 0:i32[])
        %4: i32[batch=2, position=3] = map.add(%1, 8:i32[])
        %5: i32[batch=2, position=3] = map.select_n(%3, %1, %4)
        %6: i32[batch=2, position=3, _=1] = broadcast(%5)
        %7: f32[vocab=8, embed=4] = scatter.add(%0, %6, %2) along=[vocab=8]
        """,
    ),
    case(
        "scatter names its updates",
        lambda w, i: w.at[:, i].set(jnp.ones((4, 2))),
        (shaped("embed vocab", 4, 8), shaped("batch", 2, dtype=jnp.int32)),
        """
        %2: f32[embed=4, batch=2] = broadcast(1.0:f32[])
        %3: bool[batch=2] = map.lt(%1, 0:i32[])
        %4: i32[batch=2] = map.add(%1, 8:i32[])
        %5: i32[batch=2] = map.select_n(%3, %1, %4)
        %6: i32[batch=2, _=1] = broadcast(%5)
        %7: f32[embed=4, vocab=8] = scatter.set(%0, %6, %2) along=[vocab=8]
        """,
    ),
    case(
        "iota is named by what it meets",
        lambda x: x + jnp.arange(4.0),
        (BE,),
        """
        %1: f32[embed=4] = iota() along=[embed=4]
        %2: f32[_=1, embed=4] = broadcast(%1)
        %3: f32[batch=4, embed=4] = map.add(%0, %2)
        """,
    ),
    case(
        "random bits are named by what they meet",
        lambda x: x + jax.random.bits(jax.random.key(0), (4, 4)).astype(float),
        (BE,),
        """
        %1: key<fry>[] = random.seed(0:i32[])
        %2: u32[batch=4, embed=4] = random.bits(%1)
        %3: f32[batch=4, embed=4] = map.convert_element_type(%2)
        %4: f32[batch=4, embed=4] = map.add(%0, %3)
        """,
    ),
    case(
        "keys of a batch lead",
        lambda k, x: x + jax.vmap(lambda key: jax.random.bits(key, (4,)))(k).astype(float),
        (shaped("batch", 4, dtype=jax.random.key(0).dtype), BE),
        """
        %2: u32[batch=4, embed=4] = random.bits(%0)
        %3: f32[batch=4, embed=4] = map.convert_element_type(%2)
        %4: f32[batch=4, embed=4] = map.add(%1, %3)
        """,
    ),
    case(
        "a convolution: features are contracted, space is slid over",
        lambda x, k: lax.conv_general_dilated(x, k, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")),
        (shaped("batch height width channels", 4, 8, 8, 4), shaped("kernel kernel2 channels out", 3, 3, 4, 4)),
        "%2: f32[batch=4, height=4, width=4, out=4] = contract.convolve(%0, %1) along=[height=8, width=8]"
        " over=[channels=4] window=[kernel=3, kernel2=3]\n",
    ),
    case(
        "a depthwise convolution: features are batch dims",
        lambda x, k: lax.conv_general_dilated(
            x, k, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=4
        ),
        (shaped("batch position channels", 4, 8, 4), shaped("kernel one channels", 3, 1, 4)),
        "%2: f32[batch=4, position=8, channels=4] = contract.convolve(%0, %1) along=[position=8] over=[]"
        " window=[kernel=3]\n",
    ),
    case(
        "a ragged product: rows and groups stay whole",
        lambda x, w, n: lax.ragged_dot(x, w, n),
        (BE, shaped("experts embed mlp", 4, 4, 4), shaped("experts", 4, dtype=jnp.int32)),
        "%3: f32[batch=4, mlp=4] = contract.ragged(%0, %1, %2) along=[batch=4, experts=4] over=[embed=4]\n",
    ),
    case(
        "pooling",
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2), (1, 2), "VALID"),
        (BE,),
        "%1: f32[batch=4, embed=2] = cumulate.window_max(%0) along=[embed=4]\n",
    ),
    case(
        "linear algebra is batched over the dims in front",
        lambda x: jnp.linalg.qr(x)[1] * 2,
        (shaped("batch row column", 4, 4, 4),),
        """
        %1: f32[batch=4, row=4, qr~1=4],
        %2: f32[batch=4, qr~1=4, column=4] = linalg.qr(%0) along=[row=4, column=4]
        %3: f32[batch=4, qr~1=4, column=4] = map.mul(%2, 2.0:f32[])
        """,
    ),
    case(
        "what solves A x = b is called like the columns of A",
        lambda a, b: jnp.linalg.solve(a, b),
        (shaped("row column", 4, 4), shaped("row", 4)),
        """
        %2: f32[row=4, column=4] = map.stop_gradient(%0)
        %3: f32[lu~1=4, lu~2=4],
        %4: i32[lu~3=4],
        %5: i32[lu~1=4] = linalg.lu(%2) along=[row=4, column=4]
        %6: f32[column=4] = linalg.solve(%0, %0, %3, %5, %3, %5, %1) along=[row=4, column=4, lu~1=4, lu~2=4]
        """,
    ),
    case(
        "a Fourier transform",
        lambda x: jnp.fft.rfft(x),
        (BE,),
        "%1: c64[batch=4, embed=3] = linalg.fft(%0) along=[embed=4]\n",
    ),
    case(
        "a value beside itself",
        lambda x: jnp.tile(x, (1, 2)),
        (BE,),
        "%1: f32[batch=4, tile~1=8] = concat.tile(%0) along=[embed=4]\n",
    ),
    case(
        "an unknown primitive is opaque",
        lambda x: jax.pure_callback(np.sin, x, x) * 2,
        (BE,),
        """
        %1: f32[_=4, _=4] = opaque.pure_callback(%0)
        %2: f32[_=4, _=4] = map.mul(%1, 2.0:f32[])
        """,
    ),
]


@pytest.mark.parametrize(("function", "arguments", "expected"), CASES)
def test_the_graph_of_one_rule(function, arguments, expected):
    assert traced(function, *arguments) == expected


def test_two_values_merged_alike_contract_over_one_dim():
    text = traced(
        lambda x, w: x.reshape(4, 6) @ w.reshape(6, 5),
        shaped("batch heads size", 4, 2, 3),
        shaped("heads size embed", 2, 3, 5),
    )
    assert text.splitlines()[-1] == "%4: f32[batch=4, embed=5] = contract(%2, %3) over=[heads*size=6]"


def test_constants_closed_over_are_nodes():
    table = jnp.arange(16.0).reshape(4, 4)
    text = traced(lambda x: x * table, BE)
    assert text == "%1: f32[batch=4, embed=4] = constant()\n%2: f32[batch=4, embed=4] = map.mul(%0, %1)\n"
