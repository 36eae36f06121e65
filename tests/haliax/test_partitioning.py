"""Layouts by name on eight CPU devices, and named_jit."""

import asyncio
import contextlib
import contextvars
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import haliax as hax
from haliax import partitioning

A, B = hax.make_axes(a=8, b=4)
x = inputs.normal(0, (A, B))


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def laid_out(result, mesh, *spec):
    """Whether the array lies as a PartitionSpec of these entries says."""
    return result.array.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec(*spec)), result.ndim)


def test_specs(mesh):
    mapping = {"a": "data", "b": ("data", "model"), "c": "model"}
    assert partitioning.pspec_for_axis((A, B), mapping) == PartitionSpec("data", "model")
    assert partitioning.pspec_for_axis((hax.Axis("z", 2), A), mapping) == PartitionSpec(None, "data")
    assert partitioning.pspec_for_axis("a", mapping) == PartitionSpec("data")
    assert partitioning.pspec_for_axis(A) == PartitionSpec(None)
    assert partitioning.physical_axis_name("a") is None and partitioning.physical_axis_name(A, mapping) == "data"
    assert partitioning.sharding_for_axis((A, B), mapping, mesh) == NamedSharding(mesh, PartitionSpec("data", "model"))
    with pytest.raises(ValueError):
        partitioning.pspec_for(x)


def test_specs_of_a_tree(mesh):
    shape = hax.NamedArray(jax.ShapeDtypeStruct((8, 4), jnp.float32), (A, B))
    tree = {"placed": x, "shape": shape, "array": np.ones(3), "number": 1.5, "text": "hi", "none": None}
    assert partitioning.pspec_for(tree, {"a": "data"}) == {
        "placed": None,
        "shape": PartitionSpec("data", None),
        "array": PartitionSpec(None),
        "number": PartitionSpec(),
        "text": None,
        "none": None,
    }
    anew = partitioning.pspec_for(x, {"a": "data"}, preserve_existing_shardings=False)
    assert anew == PartitionSpec("data", None)
    shardings = partitioning.infer_resource_partitions(tree, {"a": "data"}, mesh=mesh)
    assert shardings["placed"] == x.array.sharding and shardings["text"] is None
    assert shardings["shape"] == NamedSharding(mesh, PartitionSpec("data", None))
    assert partitioning.infer_resource_partitions(x, {"a": "data"}, False, mesh).spec == PartitionSpec("data", None)


def test_mappings_nest():
    with hax.axis_mapping({"a": "data"}, c="model"):
        assert partitioning.current_thread_local_mapping() == {"a": "data", "c": "model"}
        with hax.axis_mapping({"b": "model", "a": "model"}, merge=True):
            assert partitioning.current_thread_local_mapping() == {"a": "data", "b": "model", "c": "model"}
        with hax.axis_mapping({"b": "model"}):
            assert partitioning.physical_axis_name("a") is None
    assert partitioning.current_thread_local_mapping() is None


def test_threads_start_without_the_mapping(mesh):
    seen, pool = [], ThreadPoolExecutor(1)
    pool.submit(int).result()  # its thread is there before the mapping
    mapping = partitioning.current_thread_local_mapping
    with hax.set_mesh(mesh), hax.axis_mapping({"a": "data"}):
        thread = threading.Thread(target=lambda: seen.append((mapping(), hax.auto_sharded(x))))
        thread.start()
        thread.join()
        assert seen == [(None, x)] and seen[0][1] is x
        assert pool.submit(mapping).result() is None and pool.submit(hax.auto_sharded, x).result() is x
        assert mapping() == {"a": "data"} and laid_out(hax.auto_sharded(x), mesh, "data")


def test_one_thread_does_not_change_the_layout_of_another(mesh):
    """The same compiled functions in two threads at once, each within a mapping of its own."""
    compiled = hax.named_jit(lambda x: hax.auto_sharded(x + 1)), jax.jit(lambda x: hax.auto_sharded(x + 1))
    both_in, both_done = threading.Barrier(2), threading.Barrier(2)

    def run(mapping, spec):
        with hax.set_mesh(mesh), hax.axis_mapping(mapping):
            both_in.wait(60)
            found = [laid_out(function(x), mesh, *spec) for function in compiled * 3]
            both_done.wait(60)
        return found + [partitioning.current_thread_local_mapping()]

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(run, {"a": "data"}, ("data",)), pool.submit(run, {"b": "model"}, (None, "model"))]
        assert [job.result() for job in jobs] == [[True] * 6 + [None]] * 2


def test_a_copy_of_the_context_brings_the_mapping_and_its_mesh(mesh):
    async def elsewhere(function):
        with hax.set_mesh(mesh), hax.axis_mapping({"a": "data"}):
            return await asyncio.to_thread(function, x)

    with ThreadPoolExecutor(1) as pool:
        for function in (hax.auto_sharded, hax.named_jit(lambda x: hax.auto_sharded(x + 1))):
            assert laid_out(asyncio.run(elsewhere(function)), mesh, "data")
            with hax.set_mesh(mesh), hax.axis_mapping({"b": "model"}):
                result = pool.submit(contextvars.copy_context().run, function, x).result()
            assert laid_out(result, mesh, None, "model")


def test_tasks_that_take_turns_compile_for_their_own_mapping(mesh):
    compiled = hax.named_jit(lambda x: hax.auto_sharded(x + 1))

    async def task(mapping, *spec):
        with hax.axis_mapping(mapping):
            found = []
            for _ in range(3):
                await asyncio.sleep(0)
                found.append(laid_out(compiled(x), mesh, *spec))
            return found

    async def tasks():
        return await asyncio.gather(task({"a": "data"}, "data"), task({"b": "model"}, None, "model"), task({}))

    with hax.set_mesh(mesh):
        assert asyncio.run(tasks()) == [[True] * 3] * 3


def test_a_trace_under_the_key_of_another_task_gives_a_warning(mesh):
    plain = jax.jit(lambda x: hax.auto_sharded(x + 2))

    async def first(entered):
        with hax.axis_mapping({"a": "data"}):
            entered.set()
            await asyncio.sleep(0.01)

    async def second(entered):
        await entered.wait()
        return plain(x)

    async def tasks():
        entered = asyncio.Event()
        return await asyncio.gather(first(entered), second(entered))

    with hax.set_mesh(mesh), pytest.warns(hax.AxisWarning, match="traced under no axis mapping"):
        asyncio.run(tasks())


def test_threads_and_tasks_with_mappings_of_their_own_do_not_mix():
    async def task(mapping):
        await asyncio.sleep(0)
        with hax.axis_mapping(mapping) if mapping else contextlib.nullcontext():
            await asyncio.sleep(0.01)
            return partitioning.current_thread_local_mapping()

    async def tasks():
        return await asyncio.gather(task({"a": "data"}), task(None), task({"a": "model"}))

    assert asyncio.run(tasks()) == [{"a": "data"}, None, {"a": "model"}]

    def own():
        with hax.axis_mapping({"b": "data"}):
            return partitioning.current_thread_local_mapping()

    with hax.axis_mapping({"a": "data"}), ThreadPoolExecutor(1) as pool:
        assert pool.submit(own).result() == {"b": "data"}
        assert partitioning.current_thread_local_mapping() == {"a": "data"}


def test_shard(mesh):
    assert hax.shard(x) is x and hax.shard(x, {"a": "data"}) is x and hax.auto_sharded(x) is x
    mapping = {"a": "data", "b": "model"}
    assert laid_out(hax.shard_with_axis_mapping(x, mapping, mesh), mesh, "data", "model")
    plain = jnp.ones(8)
    with hax.set_mesh(mesh), hax.axis_mapping(mapping):
        assert hax.shard({"plain": plain, "number": 1.5})["plain"] is plain
        for result in (
            hax.shard(x),
            jax.jit(hax.shard)(x),
            hax.auto_sharded({"x": x})["x"],
            hax.auto_sharded(x, mesh),
            hax.named_jit(lambda x: x, mapping)(x),
        ):
            assert laid_out(result, mesh, "data", "model") and np.array_equal(result, x)


def test_sizes_on_the_mesh(mesh):
    mapping = {"a": "data", "b": ("data", "model")}
    with hax.set_mesh(mesh):
        assert partitioning.physical_axis_size("a", mapping) == 4
        assert partitioning.physical_axis_size(B, mapping) == 8
        assert partitioning.physical_axis_size("c", mapping) is None
        rounded = [partitioning.round_axis_for_partitioning(hax.Axis("a", size), mapping).size for size in (0, 1, 8, 9)]
        assert rounded == [0, 4, 8, 12]
        assert partitioning.round_axis_for_partitioning(hax.Axis("c", 9), mapping).size == 9
        for wrong in (
            lambda: partitioning.physical_axis_size("a", {"a": "modle"}),
            lambda: hax.shard(x, {"a": "modle"}),
        ):
            with pytest.raises(hax.AxisError, match="the mesh has no axis `modle`.*did you mean `model`"):
                wrong()
        with pytest.raises(KeyError):
            partitioning.physical_axis_size("a", {"a": "modle"})


def test_fsdp(mesh):
    parameters, compute, seen = {"a": "data"}, {"b": "model"}, []

    def step(x):
        seen.append(partitioning.current_thread_local_mapping())
        return x + 1

    with hax.set_mesh(mesh):
        for function in (
            hax.fsdp(step, parameters, compute),
            hax.fsdp(step, parameter_mapping=parameters, compute_mapping=compute),
            hax.fsdp(parameters, compute)(step),
            hax.fsdp(parameters, compute_mapping=compute)(step),
            hax.fsdp(parameter_mapping=parameters, compute_mapping=compute)(step),
        ):
            assert laid_out(function(x), mesh, "data")
    assert seen == [compute] * 5
    with pytest.raises(TypeError):
        hax.fsdp(step, parameters)


def test_named_jit_layouts(mesh):
    seen = []

    def function(x):
        seen.append(partitioning.current_thread_local_mapping())
        return x + 1, "static"

    both, first, second = {"a": "data", "b": "model"}, {"a": "data"}, {"b": "model"}
    with hax.set_mesh(mesh):
        assert laid_out(hax.named_jit(function, both)(x)[0], mesh, "data", "model")
        assert laid_out(hax.named_jit(function, in_axis_resources=first)(x)[0], mesh, "data")
        assert laid_out(hax.named_jit(function, out_axis_resources=second)(x)[0], mesh, None, "model")
        assert laid_out(hax.named_jit(function, first, out_axis_resources=second)(x)[0], mesh, None, "model")
        with hax.axis_mapping(first):
            assert laid_out(hax.named_jit(function)(x)[0], mesh, "data")
            assert laid_out(hax.named_jit(function, in_axis_resources=both)(x)[0], mesh, "data")
    assert seen == [both, None, None, first, first, first]
    with pytest.raises(ValueError):
        hax.named_jit(function, both)(x)


@pytest.mark.parametrize(
    "call, names",
    [
        (lambda: hax.shard(wide, {"embd": "data"}), ("embd", "embed")),
        (lambda: hax.named_jit(lambda x: x, in_axis_resources={"bacth": "data"})(wide), ("bacth", "batch")),
        (lambda: hax.named_jit(lambda x: x, {"Embed": "data"})(wide), ("Embed", "embed")),
        (lambda: in_mapping({"embeds": "data"}, hax.auto_sharded), ("embeds", "embed")),
        (lambda: in_mapping({"embeds": "data"}, hax.named_jit(lambda x: x)), ("embeds", "embed")),
    ],
)
def test_misspelt_names_are_told(mesh, call, names):
    with hax.set_mesh(mesh), pytest.warns(hax.AxisWarning) as caught:
        call()
    (warning,) = caught
    assert f"`{names[0]}`" in str(warning.message) and f"did you mean `{names[1]}`?" in str(warning.message)
    assert warning.filename == __file__


def test_names_of_a_mapping_that_others_use_are_no_mistake(mesh):
    """A mapping is shared by a whole program, and similar names may well be different axes."""
    shared = {"mlp": "model", "batch2": "model", "key_embed": "model", "heads": "model", "batch": "data", "bat": "data"}
    with warnings.catch_warnings(), hax.set_mesh(mesh):
        warnings.simplefilter("error")
        hax.shard(wide, shared)
        hax.named_jit(lambda x: x, shared)(wide)
        in_mapping(shared, hax.auto_sharded)
        in_mapping({"embed": "data", "embeds": "model"}, hax.auto_sharded)


wide = hax.zeros(hax.make_axes(batch=8, embed=8))


def in_mapping(mapping, function):
    with hax.axis_mapping(mapping):
        return function(wide)


def test_named_jit_has_static_leaves_that_do_not_go_stale():
    traces = []

    @hax.named_jit
    def function(x, scale, *, note):
        traces.append(scale)
        return x * scale, {"note": note, "count": len(traces)}

    assert function(x, 2.0, note="a")[1] == {"note": "a", "count": 1}
    assert function(x, 3.0, note="b")[1] == {"note": "b", "count": 2}
    result, info = function(x, 2.0, note="a")
    assert info == {"note": "a", "count": 1} and traces == [2.0, 3.0]
    assert np.array_equal(result, x.array * 2)
    assert function(x, np.float32(2), note="a")[0].axes == x.axes


def test_named_jit_sees_the_mapping_in_force(mesh):
    function = hax.named_jit(lambda x: hax.auto_sharded(x + 1))
    with hax.set_mesh(mesh):
        with hax.axis_mapping({"a": "data"}):
            first = function(x)
        with hax.axis_mapping({"b": "model"}):
            second = function(x)
    assert first.array.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("data")), 2)
    assert second.array.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec(None, "model")), 2)


def test_the_mapping_is_in_the_key_of_every_cache(mesh):
    """Also of `jax.jit` itself, and of the body of a loop that is a function of the module."""
    for compiled in (jax.jit(hax.auto_sharded), hax.named_jit(lambda x: jax.lax.scan(in_a_loop, x, None, 1)[0])):
        with hax.set_mesh(mesh):
            assert not laid_out(compiled(x), mesh, "data")
            with hax.axis_mapping({"a": "data"}):
                assert laid_out(compiled(x), mesh, "data")
            with hax.axis_mapping({"b": "model"}):
                assert laid_out(compiled(x), mesh, None, "model")


def in_a_loop(carry, _):
    return hax.auto_sharded(carry + 1), None


def test_python_numbers_are_static_wherever_they_come():
    seen = []

    @hax.named_jit
    def function(x, number):
        seen.append(type(number) if isinstance(number, int | float) else "traced")
        return x * number

    for number in (jnp.ones(()), 2, True, 0.5, np.float32(1), jnp.asarray(0.5), 2):
        assert np.array_equal(function(x, number), x.array * np.asarray(number))
    assert seen == ["traced", int, bool, float, "traced", "traced"]
    text = hax.named_jit(lambda x, name: x.sum(name))
    assert text(x, "a").axes == (B,) and text(x, A).axes == (B,)
    with pytest.raises(TypeError, match="set has no hash"):
        text(x, {"a"})


def test_an_error_of_the_function_is_its_own():
    def fails(x):
        raise TypeError("mine")

    function = hax.named_jit(fails)
    for argument in (x, 1.5):
        with pytest.raises(TypeError, match="mine"):
            function(argument)


def gone(*arrays):
    return [array.array.is_deleted() for array in arrays]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"donate_args": (True,)}, [True, False]),
        ({"donate_args": [False, True]}, [False, True]),
        ({"donate_args": True}, [True, True]),
        ({"donate_args": (lambda leaf: leaf.ndim == 2, False)}, [True, False]),
        ({"donate_kwargs": {"y": True}}, [False, True]),
    ],
)
def test_named_jit_donates(options, expected):
    first, second = x + 0, x + 1
    function = hax.named_jit(lambda x, y: (x + y, x - y), **options)
    function(first, y=second) if "donate_kwargs" in options else function(first, second)
    assert gone(first, second) == expected


def test_named_jit_donates_parts_of_a_tree():
    first, second = x + 0, x + 1
    function = hax.named_jit(lambda pair: pair["p"] + pair["q"], donate_args=({"p": True, "q": False},))
    function({"p": first, "q": second})
    assert gone(first, second) == [True, False]


def test_named_jit_is_like_the_function():
    @hax.named_jit
    def function(x):
        """Doc."""
        return x + 1

    assert function.__name__ == "function" and function.__doc__ == "Doc." and function.__wrapped__(1) == 2
    assert isinstance(function, partitioning.WrappedCallable)
    assert "add" in function.lower(x).as_text()
    shape = hax.NamedArray(jax.ShapeDtypeStruct((8, 4), jnp.float32), (A, B))
    assert jax.eval_shape(function, x).axes == (A, B) and "add" in function.lower(shape).as_text()
    assert jax.grad(lambda x: hax.named_jit(hax.sum)(x).scalar())(x).axes == (A, B)
    assert hax.vmap(function, A)(x).axes == (A, B)
    with pytest.raises(TypeError, match="static_argnums"):
        hax.named_jit(static_argnums=0)


def test_named_jit_of_a_method():
    class Model:
        @hax.named_jit
        def __call__(self, x):
            return x + 1

    assert np.array_equal(Model()(x), x.array + 1)
