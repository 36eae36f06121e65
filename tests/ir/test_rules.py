"""One small function per rule: what its graph says, line by line. Names come from the arguments alone; sizes repeat on
purpose, so that only unification can tell the dims apart."""

from dataclasses import replace
from textwrap import dedent

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from step_models import shaped

import ir
from ir.graph import Graph

BE = shaped("batch embed", 4, 4)
IDS = shaped("batch position", 2, 3, dtype=jnp.int32)
INDEX = jax.ShapeDtypeStruct((), jnp.int32)


def arrays(function):
    """`function` of plain arrays: no NamedArray, hence no mark, ever reaches it."""
    return lambda *arguments: function(*(getattr(a, "array", a) for a in arguments))


def lines(graph: Graph) -> str:
    """The nodes of a graph as text, without inputs, outputs and source lines."""

    def bare(part: Graph) -> Graph:
        nodes = [replace(node, source=None, bodies=tuple(map(bare, node.bodies))) for node in part.nodes]
        return replace(part, nodes=tuple(nodes))

    whole = str(replace(bare(graph), inputs=(), input_paths=(), outputs=(), output_paths=(), carried=()))
    shown = [line[2:] for line in whole.splitlines()[1:-1] if not line.startswith("  -- ")]
    # Inputs were dropped, so their operands print with types; the number is enough here.
    return "\n".join(shown) + "\n"


def traced(function, *arguments) -> str:
    graph = ir.verify(ir.trace(arrays(function), *arguments))
    assert ir.parse(str(graph)) == graph
    text = lines(graph)
    for value in graph.inputs:
        text = text.replace(f"{value}:{ir.printer.print_type(value.type)}", str(value))
    return text


def case(name, function, arguments, expected):
    return pytest.param(function, arguments, dedent(expected).lstrip("\n"), id=name)


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
        %1: f32[embed=4, _=3] = broadcast(1.0:f32[])
        %2: f32[batch=4, _=3] = contract(%0, %1) over=[embed=4]
        %3: f32[_=3] = reduce.sum(%2) over=[batch=4]
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
        %1: f32[batch=4, _=2],
        %2: i32[batch=4, _=2] = sort.top_k(%0) along=[embed=4]
        """,
    ),
    case("transpose", lambda x: x.T, (BE,), "%1: f32[embed=4, batch=4] = reshape.transpose(%0)\n"),
    case(
        "broadcast",
        lambda x: jnp.broadcast_to(x, (4, 4, 4)),
        (BE,),
        "%1: f32[_=4, batch=4, embed=4] = broadcast(%0)\n",
    ),
    case(
        "merging and splitting back gives the parts back",
        lambda x: x.reshape(8, 5).reshape(2, 4, 5),
        (shaped("heads size embed", 2, 4, 5),),
        """
        %1: f32[_=8, embed=5] = reshape.reshape(%0) along=[heads=2, size=4]
        %2: f32[heads=2, size=4, embed=5] = reshape.reshape(%1) along=[_=8]
        """,
    ),
    case(
        "splitting otherwise than it was merged forgets",
        lambda x: x.reshape(4, 2, 5),
        (shaped("heads size embed", 2, 4, 5),),
        "%1: f32[_=4, _=2, embed=5] = reshape.reshape(%0) along=[heads=2, size=4]\n",
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
    case("slice", lambda x: x[:, 1:3], (BE,), "%1: f32[batch=4, embed=2] = slice.static(%0) along=[embed=4]\n"),
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
        "%2: f32[batch=4, _=2, embed=4] = concat.stack(%0, %1) along=[_=2]\n",
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
        %1: f32[batch=4, embed=2],
        %2: f32[batch=4, embed=2] = slice.split(%0) along=[embed=4]
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
        %7: f32[embed=1, batch=2, position=3] = slice.static(%6) along=[embed=4]
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
        "an unknown primitive is opaque",
        lambda x: jnp.linalg.qr(x)[1] * 2,
        (BE,),
        """
        %1: f32[_=4, _=4],
        %2: f32[_=4, _=4] = opaque.qr(%0)
        %3: f32[_=4, _=4] = map.mul(%2, 2.0:f32[])
        """,
    ),
    case(
        "scan: carries keep their dims, stacked values gain and lose the scanned one",
        lambda x, w: lax.scan(lambda c, layer: (jnp.tanh(c * layer), c.sum(0)), x, w),
        (BE, shaped("layers embed", 4, 4)),
        """
        %2: f32[batch=4, embed=4],
        %3: f32[layers=4, embed=4] = loop.scan(%0, %1) carries=1 constants=0 over=[layers=4] trips=4 body {
          inputs
            %4: f32[batch=4, embed=4]
            %5: f32[embed=4]
          %6: f32[_=1, embed=4] = broadcast(%5)
          %7: f32[batch=4, embed=4] = map.mul(%4, %6)
          %8: f32[batch=4, embed=4] = map.tanh(%7)
          %9: f32[embed=4] = reduce.sum(%4) over=[batch=4]
          outputs
            %8
            %9
        }
        """,
    ),
    case(
        "scan: a carry that starts without names gets them from the body",
        lambda x: lax.scan(lambda c, row: (c + row, None), jnp.zeros(4), x)[0],
        (BE,),
        """
        %1: f32[embed=4] = broadcast(0.0:f32[])
        %2: f32[embed=4] = loop.scan(%1, %0) carries=1 constants=0 over=[batch=4] trips=4 body {
          inputs
            %3: f32[embed=4]
            %4: f32[embed=4]
          %5: f32[embed=4] = map.add(%3, %4)
          outputs
            %5
        }
        """,
    ),
    case(
        "while: the condition has constants of its own",
        lambda x, y: lax.while_loop(lambda c: c[0].sum() < y.sum(), lambda c: (c[0] * x, c[1] + 1), (x, 0)),
        (BE, shaped("embed batch", 4, 4)),
        """
        %2: f32[batch=4, embed=4],
        %3: i32[] = loop.while(%1, %0, %0, 0:i32[]) carries=2 condition_constants=1 constants=1 condition {
          inputs
            %4: f32[embed=4, batch=4]
            %5: f32[batch=4, embed=4]
            %6: i32[]
          %7: f32[] = reduce.sum(%5) over=[batch=4, embed=4]
          %8: f32[] = reduce.sum(%4) over=[embed=4, batch=4]
          %9: bool[] = map.lt(%7, %8)
          outputs
            %9
        } body {
          inputs
            %10: f32[batch=4, embed=4]
            %11: f32[batch=4, embed=4]
            %12: i32[]
          %13: f32[batch=4, embed=4] = map.mul(%11, %10)
          %14: i32[] = map.add(%12, 1:i32[])
          outputs
            %13
            %14
        }
        """,
    ),
    case(
        "cond: all branches return the same dims",
        lambda i, x: lax.switch(i, [lambda y: y * 2, lambda y: y.T.T, lambda y: jnp.zeros((4, 4))], x),
        (INDEX, BE),
        """
        %2: i32[] = map.clamp(0:i32[], %0, 2:i32[])
        %3: f32[batch=4, embed=4] = branch.switch(%2, %1) branch0 {
          inputs
            %4: f32[batch=4, embed=4]
          %5: f32[batch=4, embed=4] = map.mul(%4, 2.0:f32[])
          outputs
            %5
        } branch1 {
          inputs
            %6: f32[batch=4, embed=4]
          %7: f32[embed=4, batch=4] = reshape.transpose(%6)
          %8: f32[batch=4, embed=4] = reshape.transpose(%7)
          outputs
            %8
        } branch2 {
          inputs
            %9: f32[batch=4, embed=4]
          %10: f32[batch=4, embed=4] = broadcast(0.0:f32[])
          outputs
            %10
        }
        """,
    ),
    case(
        "checkpoint keeps its body",
        lambda x: jax.checkpoint(jnp.sin)(x),
        (BE,),
        """
        %1: f32[batch=4, embed=4] = call.checkpoint(%0) body {
          inputs
            %2: f32[batch=4, embed=4]
          %3: f32[batch=4, embed=4] = map.sin(%2)
          outputs
            %3
        }
        """,
    ),
    case(
        "jit is inlined",
        lambda x: jax.jit(lambda y: y + 1)(x),
        (BE,),
        "%1: f32[batch=4, embed=4] = map.add(%0, 1.0:f32[])\n",
    ),
    case(
        "custom_jvp is inlined", lambda x: jax.nn.relu(x), (BE,), "%1: f32[batch=4, embed=4] = map.max(%0, 0.0:f32[])\n"
    ),
]


@pytest.mark.parametrize(("function", "arguments", "expected"), CASES)
def test_the_graph_of_one_rule(function, arguments, expected):
    assert traced(function, *arguments) == expected


@jax.custom_vjp
def clipped(x):
    return jnp.sin(x)


clipped.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.clip(g, -1, 1) * x,))


@pytest.mark.parametrize("function", [jnp.tanh, jnp.log2, jax.nn.gelu], ids=["tanh", "log2", "gelu"])
def test_what_derivatives_are_made_of_is_known(function):
    """JAX has a primitive for a step of some derivatives from one version on: `1 - x²` of tanh since 0.12."""
    text = traced(jax.value_and_grad(lambda x: function(x).sum()), BE)
    assert "opaque" not in text and text.count("f32[batch=4, embed=4]") > 2


def test_custom_vjp_is_inlined_forward_and_backward():
    assert traced(clipped, BE) == "%1: f32[batch=4, embed=4] = map.sin(%0)\n"
    text = traced(jax.grad(lambda x: clipped(x).sum()), BE)
    assert "custom" not in text and "opaque" not in text
    assert text.endswith("f32[batch=4, embed=4] = map.mul(%7, %0)\n"), text


def test_two_values_merged_alike_contract_over_one_dim():
    text = traced(
        lambda x, w: x.reshape(4, 6) @ w.reshape(6, 5),
        shaped("batch heads size", 4, 2, 3),
        shaped("heads size embed", 2, 3, 5),
    )
    assert text.splitlines()[-1] == "%4: f32[batch=4, embed=5] = contract(%2, %3) over=[_=6]"


def test_a_jit_with_shardings_of_its_own_stays_a_call():
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    graph = ir.trace(arrays(jax.jit(lambda x: x + 1, in_shardings=place)), BE)
    assert [(node.kind, node.fn) for node in graph.nodes] == [("call", "jit")]
    assert graph.nodes[0].outputs[0].type.names == ("batch", "embed")


def test_constants_closed_over_are_nodes():
    table = jnp.arange(16.0).reshape(4, 4)
    text = traced(lambda x: x * table, BE)
    assert text == "%1: f32[batch=4, embed=4] = constant()\n%2: f32[batch=4, embed=4] = map.mul(%0, %1)\n"
