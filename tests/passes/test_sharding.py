"""Laws of meshes, layouts and reshards, for any plan and any value."""

import subprocess
import sys
from math import prod

import jax
import numpy as np
import pytest
import typeguard
from hypothesis import given, settings
from hypothesis import strategies as st

from ir.types import Dim, TensorType
from passes import DeviceMesh, PlanError
from passes.sharding.reshard import reshard_steps
from passes.sharding.rules import ShardingRules, sizes_of, with_layout

NAMES = ("a", "b", "c", "d")
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24)
MESHES = st.sampled_from(
    [{"x": 2}, {"x": 4, "y": 2}, {"x": 2, "y": 3}, {"replica": 2, "x": 2, "y": 2}, {"x": 1, "y": 4}]
)
TYPES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(SIZES)), min_size=1, max_size=4, unique_by=lambda d: d[0]
)


@st.composite
def rules(draw):
    mesh = DeviceMesh.of(draw(MESHES))
    masks = st.integers(0, mesh.masks - 1)
    order = tuple(draw(st.permutations(NAMES)))
    compute = draw(st.dictionaries(st.sampled_from(NAMES), masks))
    extra = draw(st.dictionaries(st.sampled_from(NAMES), masks))
    return ShardingRules(mesh, order, compute, extra)


def tensor(dims):
    return TensorType("float32", tuple(Dim(name, size) for name, size in dims))


@given(MESHES, st.sampled_from(SIZES))
@settings(max_examples=100, deadline=None)
def test_what_fits_divides_is_asked_for_and_could_not_be_wider(mesh, size):
    mesh = DeviceMesh.of(mesh)
    for mask in range(mesh.masks):
        kept = int(mesh.fitting(size)[mask])
        assert kept & ~mask == 0
        assert size % mesh.group(kept) == 0
        for i in range(len(mesh.axes)):
            if mask >> i & 1 and not kept >> i & 1:
                assert size % mesh.group(kept & ((1 << i) - 1) | 1 << i) != 0
    assert list(mesh.fitting(mesh.devices)) == list(range(mesh.masks))


@given(rules(), TYPES, st.sampled_from(["compute", "storage"]))
@settings(max_examples=300, deadline=None)
def test_a_mesh_axis_serves_one_dim_of_a_value_and_divides_it(rules, dims, role):
    layout = rules.layout(dict(dims), role)
    seen = 0
    for name, size in dims:
        mask = int(layout.get(name, 0))
        assert seen & mask == 0
        seen |= mask
        assert size % rules.mesh.group(mask) == 0
        assert (
            mask & ~(int(rules.compute.get(name, 0)) | (int(rules.extra.get(name, 0)) if role == "storage" else 0)) == 0
        )


@given(rules(), TYPES)
@settings(max_examples=300, deadline=None)
def test_storage_refines_compute(rules, dims):
    compute, storage = rules.layout(dict(dims), "compute"), rules.layout(dict(dims), "storage")
    for name, _ in dims:
        assert int(compute.get(name, 0)) & ~int(storage.get(name, 0)) == 0


@given(rules(), TYPES, st.sampled_from(["compute", "storage"]), st.sampled_from(NAMES))
@settings(max_examples=200, deadline=None)
def test_blocking_a_name_moves_no_other(rules, dims, role, blocked):
    free, held = rules.layout(dict(dims), role), rules.layout(dict(dims), role, (blocked,))
    for name, _ in dims:
        assert int(held.get(name, 0)) == (0 if name == blocked else int(free.get(name, 0)))


@given(rules(), TYPES, st.sampled_from(["compute", "storage"]))
@settings(max_examples=200, deadline=None)
def test_the_type_says_what_the_layout_says(rules, dims, role):
    layout = rules.layout(dict(dims), role)
    placed = with_layout(tensor(dims), layout, rules)
    assert [(dim.name, dim.size) for dim in placed.dims] == dims and placed.dtype == "float32"
    for dim in placed.dims:
        assert rules.mesh.mask(dim.mesh) == int(layout.get(dim.name, 0))
        assert len(set(dim.mesh)) == len(dim.mesh)


def test_of_several_stored_names_one_that_divides_by_all_storage_axes_comes_first():
    """Rather than one that divides by some of them, whatever the order: a single gather instead of two."""
    mesh = DeviceMesh.of({"x": 4, "y": 2})
    rules = ShardingRules(mesh, ("a", "b", "c"), {}, dict.fromkeys("abc", 3))
    assert rules.layout({"a": 4, "b": 64, "c": 64}, "storage") == {"a": 0, "b": 3, "c": 0}
    assert rules.layout({"a": 4, "b": 2}, "storage") == {"a": 1, "b": 2}
    assert rules.layout({"a": 4, "b": 6}, "storage") == {"a": 1, "b": 2}


def test_of_a_name_that_occurs_twice_the_first_is_sharded():
    rules = ShardingRules(DeviceMesh.of({"x": 2}), ("a",), {"a": 1}, {})
    type_ = tensor([("a", 4), ("a", 4)])
    assert str(with_layout(type_, rules.layout(sizes_of(type_), "compute"), rules)) == "f32[a=4@x, a=4]"


@given(rules(), TYPES, st.sampled_from(["compute", "storage"]))
@settings(max_examples=100, deadline=None)
def test_a_grid_of_candidates_is_laid_out_like_each_of_them(rules, dims, role):
    """The planner evaluates whole arrays of masks with the code that lays out a single plan."""
    masks = np.arange(rules.mesh.masks)
    first, second = rules.order[0], rules.order[1]
    grid = ShardingRules(
        rules.mesh, rules.order, {**rules.compute, first: masks[:, None], second: masks[None, :]}, rules.extra
    )
    many = grid.layout(dict(dims), role)
    for i in masks:
        for j in masks:
            one = ShardingRules(rules.mesh, rules.order, {**rules.compute, first: int(i), second: int(j)}, rules.extra)
            for name, mask in one.layout(dict(dims), role).items():
                assert int(np.broadcast_to(many[name], (len(masks), len(masks)))[i, j]) == int(mask)


# Reshards.


@st.composite
def moves(draw):
    """A value, a layout to come from, sums that are due over other axes, a layout to go to."""
    mesh = DeviceMesh.of(draw(MESHES))
    dims = draw(TYPES)

    def layout(free):
        result = {}
        for name, size in dims:
            mask = int(mesh.fitting(size)[draw(st.integers(0, mesh.masks - 1)) & free])
            result[name] = mask
            free &= ~mask
        return result, free

    source, free = layout(mesh.masks - 1)
    due = []
    for _ in range(draw(st.integers(0, 2))):
        mask = draw(st.integers(0, mesh.masks - 1)) & free
        due.append(mask)
        free &= ~mask
    target, _ = layout(mesh.masks - 1)
    return mesh, tensor(dims), source, tuple(due), target


@given(moves())
@settings(max_examples=400, deadline=None)
def test_a_reshard_ends_where_it_should_with_nothing_pending(move):
    mesh, type_, source, due, target = move
    now, partial = dict(source), sum(due)
    for step in reshard_steps(type_, source, due, target, mesh):
        held = 0
        for mask in step.after.values():
            assert held & mask == 0, "a mesh axis serves two dims on the way"
            held |= mask
        assert held & step.partial == 0, "an axis is sharded and still to be summed"
        local = type_.bytes // prod(int(mesh.group(mask)) for mask in now.values())
        after = type_.bytes // prod(int(mesh.group(mask)) for mask in step.after.values())
        if not step.mask:
            assert step.after == now and step.partial == partial
        elif step.kind == "all_reduce":
            assert (step.after, step.partial, step.bytes) == (now, partial & ~step.mask, local)
        elif step.kind == "reduce_scatter":
            taken = step.after[step.name] & ~now[step.name]
            cut = int(mesh.group(taken & ~step.mask))
            assert (step.partial, step.bytes) == (partial & ~step.mask, local // cut)
            assert step.mask & ~taken == 0 and taken & ~target[step.name] == 0  # a free slice may come with it
            assert step.after == now | {step.name: now[step.name] | taken}
        elif step.kind == "reshard":
            assert step.after == now | {step.name: now[step.name] | step.mask}
        elif step.kind == "all_to_all":
            assert after == local and step.bytes == local
        elif step.kind == "permute":
            assert (step.after, step.partial, step.bytes) == (now, partial, local)
        else:
            assert step.kind == "all_gather"
            assert step.after == now | {step.name: now[step.name] & ~step.mask}
            assert step.bytes == after
        now, partial = dict(step.after), step.partial
    assert now == target
    assert partial == 0


@given(moves())
@settings(max_examples=200, deadline=None)
def test_no_reshard_does_anything_needless(move):
    mesh, type_, source, due, target = move
    kinds = [step.kind for step in reshard_steps(type_, source, due, target, mesh) if step.mask]
    if not any(due) and source == target:
        assert kinds == []
    if not any(due):
        assert not {"all_reduce", "reduce_scatter"} & set(kinds)
    if all(source[name] & ~target[name] == 0 for name in target):
        assert not {"all_to_all", "all_gather"} & set(kinds)
    if all(target[name] & ~source[name] == 0 for name in target):
        assert set(kinds) <= {"all_reduce", "all_gather", "permute"}
    if all((source[name] | target[name]).bit_count() <= 1 for name in target):
        assert "permute" not in kinds  # one mesh axis on a dim has no order


@pytest.mark.parametrize(
    ("source", "target", "computed", "kinds"),
    [
        (0b11, 0b01, 0, ["all_gather"]),  # the inner axis goes
        (0b11, 0b10, 0, ["permute", "all_gather"]),  # the outer axis goes
        (0b01, 0b11, 0, ["reshard"]),
        (0b10, 0b11, 0, ["reshard", "permute"]),
        (0b10, 0b11, 0b10, ["reshard"]),  # a compute axis is the outer one
        (0b11, 0b01, 0b10, ["permute", "all_gather"]),
    ],
)
def test_shards_change_places_where_an_outer_axis_comes_or_goes(source, target, computed, kinds):
    mesh, type_ = DeviceMesh(("x", "y"), (4, 2)), tensor([("a", 16)])
    steps = list(reshard_steps(type_, {"a": source}, (), {"a": target}, mesh, computed={"a": computed}))
    assert [step.kind for step in steps] == kinds
    assert all(step.bytes == 4 * 16 // 8 for step in steps if step.kind == "permute")


@given(moves(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_grid_of_reshards_is_each_of_them(move, data):
    mesh, type_, source, due, target = move
    other = {name: data.draw(st.sampled_from([0, mask])) for name, mask in target.items()}
    both = {name: np.array([target[name], other[name]]) for name in target}
    grid = list(reshard_steps(type_, source, due, both, mesh))

    def at(figure, k):
        return int(np.broadcast_to(figure, 2)[k])

    for k, wanted in enumerate((target, other)):
        single = [step for step in reshard_steps(type_, source, due, wanted, mesh) if step.mask]
        many = [(step.kind, step.name, at(step.mask, k), at(step.bytes, k)) for step in grid if at(step.mask, k)]
        assert many == [(step.kind, step.name, int(step.mask), int(step.bytes)) for step in single]


# Meshes.


def test_a_mesh_by_name():
    mesh = DeviceMesh.of({"replica": 2, "data": 4, "model": 2})
    assert (mesh.devices, mesh.masks, list(mesh.products)) == (16, 8, [1, 2, 4, 8, 2, 4, 8, 16])
    assert mesh.names(0b101) == ("replica", "model")
    assert mesh.mask(["model", "replica"]) == 0b101
    assert mesh.as_dict() == {"replica": 2, "data": 4, "model": 2}
    assert DeviceMesh.of(mesh) is mesh


FORMS = (
    "write 8 (data), 4x2 (data, model), 2x4x2 (replica, data, model), 2x16x4x4 (replica, data, sequence, model), or "
    "name the axes: data=4,model=2"
)
LEAST = "sizes must be whole numbers of at least 1"
KINDS = "pass {'data': 4, 'model': 2}, text such as \"4x2\", a jax.sharding.Mesh, or a passes.DeviceMesh"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, f"bad mesh `{{}}`: a mesh needs at least one axis, each with a size; {FORMS}"),
        ({"data": 0}, f"bad mesh `{{'data': 0}}`: axis `data` has size 0; {LEAST}"),
        ({"data": 4, "model": -1}, f"bad mesh `{{'data': 4, 'model': -1}}`: axis `model` has size -1; {LEAST}"),
        ({"data": 2.5}, f"bad mesh `{{'data': 2.5}}`: axis `data` has size 2.5; {LEAST}"),
        ({"data": 2.0}, f"bad mesh `{{'data': 2.0}}`: axis `data` has size 2.0; {LEAST}"),
        ({"data": True}, f"bad mesh `{{'data': True}}`: axis `data` has size True; {LEAST}"),
        ({"data": "4"}, f"bad mesh `{{'data': '4'}}`: axis `data` has size '4'; {LEAST}"),
        ({"data": None}, f"bad mesh `{{'data': None}}`: axis `data` has size None; {LEAST}"),
        ({4: 2}, "bad mesh `{4: 2}`: 4 is not an axis name; names are text, such as 'data'"),
        ({"": 2}, "bad mesh `{'': 2}`: '' is not an axis name; names are text, such as 'data'"),
        (
            {"data": 2**40},
            f"bad mesh `{{'data': {2**40}}}`: it has {2**40} devices, and the most is {2**31}; {FORMS}",
        ),
        (8, f"bad mesh `8` (int): {KINDS}"),
        ((4, 2), f"bad mesh `(4, 2)` (tuple): {KINDS}"),
        (None, f"bad mesh `None` (NoneType): {KINDS}"),
        ("4 by 2", f"bad mesh `4 by 2`: {FORMS}"),
    ],
)
@typeguard.suppress_type_checks
def test_a_bad_mesh_is_refused(bad, message):
    with pytest.raises(PlanError) as caught:
        DeviceMesh.of(bad)
    assert str(caught.value) == message


def test_every_way_of_writing_a_mesh_is_the_same_mesh():
    mesh = DeviceMesh(("data", "model"), (4, 2))
    jax_mesh = jax.make_mesh((4, 2), ("data", "model"))
    for same in ({"data": 4, "model": 2}, {"data": np.int64(4), "model": 2}, "4x2", "data=4,model=2", jax_mesh, mesh):
        assert DeviceMesh.of(same) == mesh
    assert DeviceMesh.of(jax_mesh.abstract_mesh) == mesh
    assert str(mesh) == "data=4,model=2"
    assert all(type(size) is int for size in DeviceMesh.of({"data": np.int64(4)}).sizes)


@pytest.mark.parametrize(("axes", "sizes"), [(("a", "a"), (2, 2)), (("a",), (0,)), (("a", "b"), (2,)), ((), ())])
def test_a_mesh_made_by_its_parts_is_held_to_the_same(axes, sizes):
    with pytest.raises(PlanError, match="^bad mesh"):
        DeviceMesh(axes, sizes)


PLAIN = """
import sys
import passes
from passes.sharding.mesh import DeviceMesh
from passes.hardware import chip
assert passes.DeviceMesh.of("4x2").devices == 8
assert "jax" not in sys.modules, "a mesh can be read before JAX is imported"
import passes.lower, passes.canonicalize, passes.partition, passes.check_axes
assert all(not isinstance(getattr(passes, name), type(sys)) for name in passes.__all__)
assert set(passes.__all__) <= set(dir(passes))
"""


def test_a_mesh_and_a_chip_need_no_jax():
    subprocess.run([sys.executable, "-c", PLAIN], check=True, timeout=120)


def test_an_unknown_mesh_axis_is_refused_with_the_nearest():
    with pytest.raises(PlanError) as caught:
        DeviceMesh.of({"data": 4, "model": 2}).mask(["modle"])
    assert str(caught.value) == "mesh axis 'modle': this mesh has data, model; did you mean 'model'?"


@pytest.mark.parametrize("dims", [[("a", 16), ("b", 16)], [("b", 16), ("a", 16)]])
def test_between_slices_the_least_is_sent(dims):
    """Gathered there first and scattered there last, whichever dim comes first."""
    mesh, type_ = DeviceMesh.of({"replica": 4, "data": 4}), tensor(dims)
    slow, fast = mesh.mask(["replica"]), mesh.mask(["data"])
    apart, together = {"a": fast, "b": slow}, {"a": 0, "b": 0}
    gathers = [(step.kind, step.mask, step.bytes) for step in reshard_steps(type_, apart, (), together, mesh)]
    assert gathers == [("all_gather", slow, 256), ("all_gather", fast, 1024)]
    scatters = [
        (step.kind, step.mask, step.bytes) for step in reshard_steps(type_, together, (slow | fast,), apart, mesh)
    ]
    assert scatters == [("reduce_scatter", fast, 1024), ("reduce_scatter", slow, 256)]
