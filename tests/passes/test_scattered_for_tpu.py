"""What is reduce-scattered on a TPU is written as its compiler keeps it; the values are the same to the bit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
import simulated_devices

import ir
import passes
from ir.analysis.verify import verify
from passes import pipeline
from passes.for_tpu import for_tpu
from passes.prove import prove

SLICE = {"data": 4, "model": 2}
CUBE = {"data": 2, "sequence": 2, "model": 2}


def step(loss, shape, others, names):
    """A placed step of one parameter, and what libtpu is given."""

    def trained(weight, *others):
        return weight - 0.1 * jax.grad(loss)(weight, *others)

    graph = ir.trace(trained, jax.ShapeDtypeStruct(shape, jnp.float32), *others, names=names)
    return pipeline.prepare(graph)


def looked_up(rows, embed):
    """The step of a table, of which words are looked up."""
    tokens = jax.ShapeDtypeStruct((16, 8), jnp.int32)
    loss = lambda table, tokens: jnp.sum(jnp.tanh(table[tokens]))  # noqa: E731
    return step(loss, (rows, embed), (tokens,), {"weight": "vocab embed", "*": "batch position"})


def multiplied(embed, mlp, dtype=jnp.bfloat16):
    """The step of a matrix."""
    x = jax.ShapeDtypeStruct((16, embed), dtype)
    loss = lambda weight, x: jnp.sum(jnp.square(x @ weight.astype(dtype)).astype(jnp.float32))  # noqa: E731
    return step(loss, (embed, mlp), (x,), {"weight": "embed mlp", "*": "batch embed"})


def given(graph, mesh, hardware, outer):
    plan = passes.Plan.by_hand(mesh, {"batch": outer}, {"embed": outer}, hardware)
    placed = pipeline.place(graph, plan)
    return placed, for_tpu(placed, plan)


def written(graph):
    """How each reduce-scatter is written."""
    return [
        {key: node.attrs[key] for key in ("layout", "stacked") if key in node.attrs}
        for node in graph.walk()
        if node.kind == "reduce_scatter"
    ]


def plain(graph):
    """The graph without how its reduce-scatters are written."""
    nodes = [
        replace(node, attrs={key: value for key, value in node.attrs.items() if key not in ("layout", "stacked")})
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("rows", "embed", "mesh", "hardware", "wanted"),
    [
        (1024, 64, SLICE, "v5e", {"layout": (1, 0)}),  # 16 of 128 lanes, but two rows of tiles
        (1024, 512, SLICE, "v5e", {}),  # whole rows of lanes, as they lie
        (1024, 16, SLICE, "v5e", {}),  # whole tiles in no layout
        (1024, 128, CUBE, "v5p", {"layout": (1, 0)}),
        (1024, 64, SLICE, "v6e", {"layout": (1, 0)}),
        (128 * 127, 128, CUBE, "v5p", {}),  # in pieces that do not come out even
    ],
)
def test_what_a_scatter_writes_lies_as_it_is_cut(rows, embed, mesh, hardware, wanted):
    outer = [axis for axis in mesh if axis != "model"]
    placed, for_chip = given(looked_up(rows, embed), mesh, hardware, outer)
    assert written(for_chip) == [wanted]
    verify(for_chip)
    assert plain(for_chip) == placed
    assert not prove(for_chip, mesh=mesh).assumptions


@pytest.mark.parametrize(
    ("embed", "mlp", "mesh", "hardware", "wanted"),
    [
        (2048, 4096, SLICE, "v5e", {"stacked": True}),  # five pieces, of 64 rows of tiles
        (1920, 4096, SLICE, "v5e", {}),  # of 60
        (2048, 1024, SLICE, "v5e", {}),  # two
        (2048, 4096, CUBE, "v5p", {"layout": (1, 0)}),
        (1792, 4096, CUBE, "v5p", {}),  # four pieces, in either direction, of 56
        (1216, 4096, CUBE, "v5p", {}),  # no whole rows of lanes
    ],
)
def test_a_matrix_is_cut_so_that_nothing_is_filled_up(embed, mlp, mesh, hardware, wanted):
    outer = [axis for axis in mesh if axis != "model"]
    placed, for_chip = given(multiplied(embed, mlp), mesh, hardware, outer)
    assert written(placed) == [{}]
    assert written(for_chip) == [wanted]


def test_other_chips_and_one_slice_are_given_what_is_printed():
    for hardware, outer in (("h100", ["data"]), ("v5p", ["data", "sequence", "model"])):
        placed, for_chip = given(looked_up(1024, 128), CUBE, hardware, outer)
        assert written(for_chip) == [{}] == written(placed)


def test_the_values_are_the_same():
    graph = multiplied(64, 16, jnp.float32)
    placed, _ = given(graph, SLICE, "v5e", ["data"])
    nodes = [
        replace(node, attrs={**node.attrs, "layout": (1, 0), "stacked": True})
        if node.kind == "reduce_scatter"
        else node
        for node in placed.nodes
    ]
    stacked = replace(placed, nodes=tuple(nodes))
    assert written(stacked) == [{"layout": (1, 0), "stacked": True}]
    verify(stacked)
    assert str(ir.parse(str(stacked))) == str(stacked)
    arrays = simulated_devices.inputs(placed)
    assert simulated_devices.same(
        simulated_devices.run(stacked, SLICE, arrays), simulated_devices.run(placed, SLICE, arrays)
    )
