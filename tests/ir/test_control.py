"""Loops, branches and calls, line by line: how names cross into bodies and back."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from rule_cases import BE, INDEX, arrays, case, traced
from step_models import shaped

import ir

CASES = [
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


def test_a_jit_with_shardings_of_its_own_stays_a_call():
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    graph = ir.trace(arrays(jax.jit(lambda x: x + 1, in_shardings=place)), BE)
    assert [(node.kind, node.fn) for node in graph.nodes] == [("call", "jit")]
    assert graph.nodes[0].outputs[0].type.names == ("batch", "embed")
