"""Names that published code imports, some of them private, and what they do."""

import importlib

import jax
import jax.numpy as jnp
import pytest

import haliax as hax

PATHS = """
haliax._src.dot.dot haliax._src.einsum.einsum haliax._src.rearrange.rearrange haliax._src.rearrange.axis_spec_rearrange
haliax._src.rearrange.einops_rearrange haliax._src.scan.ScanCheckpointPolicy haliax._src.scan.ScanCheckpointSpec
haliax._src.state_dict.flatten_modules_for_export haliax._src.state_dict.to_state_dict
haliax._src.state_dict.from_state_dict haliax._src.util.IdentityMap haliax._src.util.ensure_tuple
haliax._src.util.index_where haliax._src.util.py_slice haliax._src.util.slice_t haliax.axis.overlapping_axes
haliax.core.Axis haliax.core.AxisSelection haliax.core.AxisSelector haliax.core.AxisSpec haliax.core.NamedOrNumeric
haliax.core.eliminate_axes haliax.core.index_where haliax.core.selects_axis haliax.core.union_axes
haliax.partitioning.Mesh haliax.partitioning.NamedSharding haliax.partitioning.PartitionSpec
haliax.partitioning._get_mesh haliax.quantization.Fp8Config haliax.quantization.fp8_linear_layers
haliax.random.generate_sharded
""".split()  # noqa: SIM905


@pytest.mark.parametrize("path", PATHS)
def test_path(path):
    module, _, name = path.rpartition(".")
    assert getattr(importlib.import_module(module), name) is not None
    value = hax
    for part in path.split(".")[1:]:  # and by attributes alone, as in `haliax.partitioning.Mesh`
        value = getattr(value, part)


def test_the_mesh_in_force_or_an_empty_one():
    assert hax.partitioning._get_mesh().empty
    mesh = jax.make_mesh((8,), ("data",))
    with hax.set_mesh(mesh):
        assert hax.partitioning._get_mesh() == mesh


def test_a_policy_wraps_a_function_whose_values_have_names():
    def body(carry, x):
        carry = hax.tree_checkpoint_name(carry, "own_carry")
        return jnp.sin(carry * hax.tree_checkpoint_name(x, "own_input"))

    def saved(policy):
        wrapped = hax.ScanCheckpointPolicy.checkpoint(policy, "own_carry", "own_input", body)
        return str(jax.make_jaxpr(jax.grad(wrapped))(1.0, 2.0))

    keeps = hax.ScanCheckpointPolicy(save_inputs=True)
    assert "own_input" in saved(keeps) and "own_carry" in saved(keeps)
    assert keeps.jax_policy("own_carry", "own_input") is not None
    disabled = hax.ScanCheckpointPolicy(disable=True)
    assert disabled.checkpoint("own_carry", "own_input", body) is body
    assert jax.grad(keeps.checkpoint("c", "i", body))(1.0, 2.0) == jax.grad(body)(1.0, 2.0)


def test_an_identity_map_needs_no_hash():
    key, other = [1], [1]
    entries = hax._src.util.IdentityMap([(key, "a")])
    entries[other] = "b"
    assert entries[key] == "a" and list(entries) == [key, other] and len(entries) == 2 and [1] not in entries
    del entries[key]
    assert key not in entries and other in entries


def test_overlapping_axes():
    A, B = hax.make_axes(a=1, b=2)
    assert hax.axis.overlapping_axes((A, B), ("b", "c")) == (B,)
    assert hax.axis.overlapping_axes(("a", "b"), (B,)) == (B,)
    assert hax.axis.overlapping_axes("a", B) == ()


def test_fp8_by_its_published_name():
    In, Out = hax.make_axes(embed=4, mlp=8)
    layer = hax.nn.Linear.init(In, Out, key=jax.random.key(0))
    config = hax.quantization.Fp8Config(amax_history_length=3)
    changed = hax.quantization.fp8_linear_layers(layer, config)
    assert changed.dot_general.input_amax_history.shape == (3,)
    assert hax.random.generate_sharded(hax.random.normal) is hax.random.normal
