"""The list of collectives, read from programs that JAX and XLA make here and now on eight CPU devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from levanter.compiler.verify.hlo import CompiledCollective, collectives
from levanter.errors import WorkFailed

GRID = {"data": 4, "model": 2}
CUBE = {"replica": 2, "data": 2, "model": 2}
Pin = Callable[..., jax.Array]


def f32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., list[CompiledCollective]]:
    """`compiled(function, arguments, specs, out, mesh)`; the function's first argument pins a value's layout."""

    def run(
        function: Callable[..., Any], arguments: tuple[Any, ...], specs: tuple[P, ...], out: Any, mesh: dict[str, int]
    ) -> list[CompiledCollective]:
        device_mesh = jax.make_mesh(tuple(mesh.values()), tuple(mesh), axis_types=(AxisType.Auto,) * len(mesh))

        def pin(value: jax.Array, *spec: Any) -> jax.Array:
            return jax.lax.with_sharding_constraint(value, NamedSharding(device_mesh, P(*spec)))

        def shardings(tree: Any) -> Any:
            return jax.tree.map(lambda s: NamedSharding(device_mesh, s), tree, is_leaf=lambda s: isinstance(s, P))

        step = jax.jit(lambda *a: function(pin, *a), in_shardings=shardings(specs), out_shardings=shardings(out))
        options = {
            "xla_dump_to": str(tmp_path),
            "xla_dump_hlo_pass_re": "spmd.*",
            "xla_dump_hlo_as_text": True,
            "xla_dump_large_constants": True,
            "xla_backend_optimization_level": 0,
        }
        step.lower(*arguments).compile(compiler_options=options)
        (file,) = tmp_path.glob("*after_spmd-partitioning*")
        return collectives(file.read_text(), mesh)

    return run


def facts(found: list[CompiledCollective]) -> list[tuple[str, tuple[str, ...], int, int]]:
    return [(c.kind, c.mesh_axes, c.bytes, c.count) for c in found]


def test_a_reduction_over_two_of_three_mesh_axes(compiled: Any) -> None:
    def f(pin: Pin, x: jax.Array, w: jax.Array) -> jax.Array:
        return pin(jnp.einsum("be,bm->em", x, w))

    split = P(("replica", "model"))
    found = compiled(f, (f32(16, 32), f32(16, 64)), (split, split), P(), CUBE)
    assert facts(found) == [("all_reduce", ("replica", "model"), 32 * 64 * 4, 1)]


def test_a_gather_of_two_dims_is_one_for_each_the_last_first(compiled: Any) -> None:
    found = compiled(lambda pin, x: pin(x), (f32(16, 32),), (P(("data", "replica"), "model"),), P(), CUBE)
    assert facts(found) == [("all_gather", ("model",), 4 * 32 * 4, 1), ("all_gather", ("replica", "data"), 2048, 1)]


def test_a_reduced_value_read_in_shards_is_a_reduce_scatter(compiled: Any) -> None:
    def f(pin: Pin, x: jax.Array, w: jax.Array) -> jax.Array:
        return pin(pin(jnp.einsum("be,bm->em", x, w), None, "model"), "data", "model")

    specs = (P("data"), P("data", "model"))
    found = compiled(f, (f32(8, 32), f32(8, 64)), specs, P("data", "model"), GRID)
    assert facts(found) == [("reduce_scatter", ("data",), 32 * 32 * 4, 1)]


def test_a_padded_shard_is_a_shard(compiled: Any) -> None:
    def f(pin: Pin, x: jax.Array) -> jax.Array:
        return pin(pin(jnp.einsum("be,bf->ef", x, x)), "data") * 2

    found = compiled(f, (f32(8, 50),), (P("data"),), P(None), GRID)
    assert ("reduce_scatter", ("data",), 50 * 50 * 4, 1) in facts(found)
    assert ("all_gather", ("data",), 52 * 50 * 4, 1) in facts(found)


def test_a_slice_along_another_axis_is_no_reduce_scatter(compiled: Any) -> None:
    def f(pin: Pin, x: jax.Array, w: jax.Array) -> jax.Array:
        return pin(pin(jnp.einsum("be,bm->em", x, w)), None, "model")

    found = compiled(f, (f32(8, 32), f32(8, 64)), (P("data"), P("data")), P(None, "model"), GRID)
    assert facts(found) == [("all_reduce", ("data",), 32 * 64 * 4, 1)]


def test_a_value_that_is_also_read_whole_is_no_reduce_scatter(compiled: Any) -> None:
    def f(pin: Pin, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        whole = pin(jnp.einsum("be,bf->ef", x, x))
        return whole * 2, pin(whole, "data")

    found = compiled(f, (f32(8, 32),), (P("data"),), (P(), P("data")), GRID)
    assert facts(found) == [("all_reduce", ("data",), 32 * 32 * 4, 1)]


def test_nested_scans_multiply(compiled: Any) -> None:
    def f(pin: Pin, x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        def inner(a: jax.Array, w_i: jax.Array) -> tuple[jax.Array, None]:
            return pin(jnp.sin(pin(a, "data") @ pin(w_i)), "data"), None

        def outer(a: jax.Array, _: jax.Array) -> tuple[jax.Array, jax.Array]:
            a, _ = jax.lax.scan(inner, a, w)
            return a, pin(jnp.sum(a, axis=0))

        return jax.lax.scan(outer, x, jnp.arange(4))

    specs = (P("data"), P(None, "data", "model"))
    found = compiled(f, (f32(16, 32), f32(3, 32, 32)), specs, (P("data"), P()), GRID)
    assert facts(found) == [
        ("all_gather", ("model",), 8 * 32 * 4, 12),
        ("all_gather", ("data",), 32 * 32 * 4, 12),
        ("all_reduce", ("data",), 32 * 4, 4),
    ]


def test_remat_gathers_again_in_the_backward_pass(compiled: Any) -> None:
    def f(pin: Pin, x: jax.Array, w: jax.Array) -> jax.Array:
        @jax.checkpoint
        def layer(a: jax.Array, w_i: jax.Array) -> tuple[jax.Array, None]:
            return pin(jnp.tanh(pin(a, "data") @ pin(w_i)), "data"), None

        def loss(w: jax.Array) -> jax.Array:
            return pin(jnp.sum(jax.lax.scan(layer, x, w)[0] ** 2))

        return pin(jax.grad(loss)(w), None, "data")

    found = compiled(f, (f32(16, 32), f32(5, 32, 32)), (P("data"), P(None, "data")), P(None, "data"), GRID)
    gathers = [c for c in found if c.kind == "all_gather" and c.bytes == 32 * 32 * 4]
    assert [(c.mesh_axes, c.count) for c in gathers] == [(("data",), 5), (("data",), 5)]
    # The operation is named `rematted_computation/…` up to JAX 0.11, `remat2` since.
    assert "remat" in gathers[1].op_name and "remat" not in gathers[0].op_name
    assert ("reduce_scatter", ("data",), 32 * 32 * 4, 5) in facts(found)


def test_a_loop_that_starts_elsewhere_and_one_of_unknown_length(compiled: Any) -> None:
    def f(pin: Pin, x: jax.Array, n: jax.Array) -> jax.Array:
        def body(i: jax.Array, a: jax.Array) -> jax.Array:
            return pin(pin(a), "data") * i

        return jax.lax.fori_loop(0, n, body, jax.lax.fori_loop(2, 9, body, x))

    found = compiled(f, (f32(16, 32), jax.ShapeDtypeStruct((), jnp.int32)), (P("data"), P()), P("data"), GRID)
    assert sorted((c.kind, c.count, c.count_known) for c in found) == [
        ("all_gather", 1, False),
        ("all_gather", 7, True),
    ]


def test_each_branch_counts_once(compiled: Any) -> None:
    def f(pin: Pin, x: jax.Array, i: jax.Array) -> jax.Array:
        branches = [lambda a: pin(pin(jnp.tanh(a)), "data"), lambda a: pin(pin(a.T, "data").T, "data"), lambda a: a]
        return pin(jax.lax.switch(i, branches, x), "data")

    found = compiled(f, (f32(32, 32), jax.ShapeDtypeStruct((), jnp.int32)), (P("data"), P()), P("data"), GRID)
    assert facts(found) == [
        ("all_gather", ("data",), 4096, 1),
        ("all_to_all", ("data",), 1024, 1),
        ("all_to_all", ("data",), 1024, 1),
    ]


def test_the_source_is_the_users_line(compiled: Any) -> None:
    def f(pin: Pin, x: jax.Array) -> jax.Array:
        return jnp.sum(x)

    (found,) = compiled(f, (f32(8),), (P("data"),), P(), GRID)
    line = f.__code__.co_firstlineno + 1
    assert found.source == f"test_hlo.py:{line}"
    assert found.op_name.endswith("reduce_sum")


HAND = """HloModule hand, num_partitions=4

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %s = f32[] add(%x, %y)
}

ENTRY %main (p: f32[8], q: f32[4]) -> (f32[2], f32[4], f32[8]) {
  %p = f32[8]{0} parameter(0)
  %q = f32[4]{0} parameter(1)
  %both = (f32[8]{0}, f32[4]{0}) all-reduce(%p, %q), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
  %gte.0 = f32[8]{0} get-tuple-element(%both), index=0
  %gte.1 = f32[4]{0} get-tuple-element(%both), index=1
  %table = s32[4]{0} constant(OFFSETS)
  %id = u32[] partition-id()
  %pick = s32[1]{0} dynamic-slice(%table, %id), dynamic_slice_sizes={1}
  %at = s32[] reshape(%pick)
  %shard = f32[2]{0} dynamic-slice(%gte.0, %at), dynamic_slice_sizes={2}
  %self = f32[4]{0} all-reduce(%gte.1), channel_id=2, replica_groups={{0},{1},{2},{3}}, to_apply=%add
  %stay = f32[4]{0} collective-permute(%self), channel_id=3, source_target_pairs={{0,0},{1,1}}
  %start = (f32[2]{0}, f32[8]{0}) all-gather-start(%shard), channel_id=4, replica_groups=[1,4]<=[4], dimensions={0}
  %done = f32[8]{0} all-gather-done(%start)
  %pieces = (f32[2]{0}, f32[2]{0}) all-to-all(%shard, %shard), channel_id=5, replica_groups={{0,1},{2,3}}
  ROOT %out = (f32[2]{0}, f32[4]{0}, f32[8]{0}) tuple(%shard, %stay, %done)
}
"""


def test_forms_that_other_backends_write() -> None:
    """Variadic operands one by one, groups of one device never, asynchronous pairs once, all-to-all of pieces whole."""
    found = collectives(HAND.replace("OFFSETS", "{0, 2, 4, 6}"), {"data": 2, "model": 2})
    assert facts(found) == [
        ("reduce_scatter", ("data", "model"), 32, 1),
        ("all_reduce", ("data", "model"), 16, 1),
        ("all_gather", ("data", "model"), 32, 1),
        ("all_to_all", ("model",), 16, 1),
    ]


def test_shards_that_coincide_are_no_shards() -> None:
    found = collectives(HAND.replace("OFFSETS", "{0, 0, 2, 2}"), {"data": 2, "model": 2})
    assert found[0].kind == "all_reduce"


def test_a_dump_without_its_constants_is_refused() -> None:
    with pytest.raises(WorkFailed) as caught:
        collectives(HAND.replace("OFFSETS", "{...}"), {"data": 2, "model": 2})
    assert str(caught.value) == (
        "cannot read the compiled program (the values of constant `table` were left out of the dump): "
        "dump it with --xla_dump_large_constants"
    )
