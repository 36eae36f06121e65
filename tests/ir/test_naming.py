"""Names beside the arguments: patterns, functions, and the boxes of Flax."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
import typeguard

import ir
from haliax import Axis, NamedArray
from ir.staging.naming import near_paths, unnamed


def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


STATE = {
    "mlp": {"up": {"kernel": array(4, 8), "bias": array(8)}, "down": {"kernel": array(8, 4), "bias": array(4)}},
    "head": {"kernel": array(4, 3)},
}
BATCH = {"tokens": array(2, 5, 4), "target": array(2, 5, dtype=jnp.int32)}
STEP_NAMES = {"*.mlp.up.kernel": "embed mlp", "batch.tokens": "batch position _", "*.head.kernel": "_ classes"}


def step(state, batch):
    up, down = state["mlp"]["up"], state["mlp"]["down"]
    hidden = jax.nn.gelu(batch["tokens"] @ up["kernel"] + up["bias"])
    x = hidden @ down["kernel"] + down["bias"]
    return state, jax.nn.log_softmax(x @ state["head"]["kernel"])


def types(graph):
    return {path: str(value.type) for path, value in zip(graph.input_paths, graph.inputs, strict=True)}


def names_of(names, *arguments, of=step):
    return types(ir.trace(of, *(arguments or (STATE, BATCH)), names=names))


def refused(names, *arguments):
    with pytest.raises(ir.NamingError) as caught, typeguard.suppress_type_checks():
        ir.trace(step, *(arguments or (STATE, BATCH)), names=names)
    return str(caught.value)


def test_patterns_name_arguments_and_inference_does_the_rest():
    graph = ir.trace(step, STATE, BATCH, names=STEP_NAMES)
    assert types(graph) == {
        "state.head.kernel": "f32[_=4, classes=3]",
        "state.mlp.down.bias": "f32[_=4]",
        "state.mlp.down.kernel": "f32[mlp=8, _=4]",
        "state.mlp.up.bias": "f32[mlp=8]",
        "state.mlp.up.kernel": "f32[embed=4, mlp=8]",
        "batch.target": "i32[_=2, _=5]",
        "batch.tokens": "f32[batch=2, position=5, embed=4]",
    }
    assert str(graph.outputs[-1].type) == "f32[batch=2, position=5, classes=3]"
    assert list(ir.unnamed(graph)) == [
        "state.head.kernel",
        "state.mlp.down.bias",
        "state.mlp.down.kernel",
        "batch.target",
    ]


def test_a_star_stands_for_any_text_and_a_leading_one_for_none():
    kernels = names_of({"*.up.kernel": "embed mlp", "state.*.bias": "_", "*.tokens": "a b c"})
    assert kernels["state.mlp.up.kernel"] == "f32[embed=4, mlp=8]"
    assert names_of({"*.x": "embed"}, array(4), of=lambda x: x)["x"] == "f32[embed=4]"
    assert names_of({"*kernel": "embed out"})["state.head.kernel"] == "f32[embed=4, out=3]"


def test_the_first_pattern_that_matches_wins():
    names = names_of({"*.head.kernel": "embed classes", "*.kernel": "rows columns"})
    assert (names["state.head.kernel"], names["state.mlp.up.kernel"]) == (
        "f32[embed=4, classes=3]",
        "f32[rows=4, columns=8]",
    )


@pytest.mark.parametrize(
    "names",
    [
        "embed mlp",
        "embed, mlp",
        "embed=4 mlp=8",
        ("embed", "mlp"),
        [Axis("embed", 4), "mlp"],
        (Axis("embed", 4), Axis("mlp", 8)),
        {"embed": 4, "mlp": 8},
        jax.sharding.PartitionSpec("embed", "mlp"),
    ],
)
def test_forms_of_names(names):
    assert names_of({"*.up.kernel": names})["state.mlp.up.kernel"] == "f32[embed=4, mlp=8]"


@pytest.mark.parametrize(
    ("names", "type_"),
    [
        ("... embed", "f32[_=2, _=5, embed=4]"),
        ("batch ...", "f32[batch=2, _=5, _=4]"),
        ("batch ... embed", "f32[batch=2, _=5, embed=4]"),
        ("batch _ ... embed", "f32[batch=2, _=5, embed=4]"),
        ("batch position ... embed", "f32[batch=2, position=5, embed=4]"),
        (("batch", None, "embed"), "f32[batch=2, _=5, embed=4]"),
        ((..., "embed"), "f32[_=2, _=5, embed=4]"),
        (None, "f32[_=2, _=5, _=4]"),
        ("batch position position'", "f32[batch=2, position=5, position'=4]"),
    ],
)
def test_dims_without_a_name(names, type_):
    def lone(tokens):
        return tokens + 1

    (value,) = ir.trace(lone, BATCH["tokens"], names={"tokens": names}).inputs
    assert str(value.type).replace('"', "") == type_


def test_a_square_array_may_have_one_name_twice():
    assert names_of({"w": "hidden hidden"}, array(4, 4), of=lambda w: w + 1)["w"] == "f32[hidden=4, hidden'=4]"


def test_a_function_of_path_and_shape():
    def naming(path, shape):
        return ("embed", "mlp") if path.endswith("up.kernel") and shape == (4, 8) else None

    names = names_of(naming)
    assert (names["state.mlp.up.kernel"], names["batch.target"]) == ("f32[embed=4, mlp=8]", "i32[_=2, _=5]")


def test_axes_of_a_named_array_come_first():
    def both(x, y):
        return x.array, y

    x = NamedArray(array(4), (Axis("own", 4),))
    assert names_of({"*": "given"}, x, array(4), of=both) == {"x": "f32[own=4]", "y": "f32[given=4]"}


def test_a_slash_in_a_key_separates():
    params = {"transformer/~/linear_1": {"w": array(4, 8)}}
    for pattern in ("*.linear_1.w", "params.transformer/~/linear_1.w", "*/linear_1.w"):
        assert list(names_of({pattern: "embed mlp"}, params, of=lambda params: params).values()) == [
            "f32[embed=4, mlp=8]"
        ]


def test_a_pattern_names_parameters_and_their_moments():
    optax = pytest.importorskip("optax")
    state = {"params": STATE, "moments": jax.eval_shape(optax.adam(1e-3).init, STATE)}
    names = names_of({"*.mlp.up.kernel": "embed mlp"}, state, of=lambda state: state)
    assert [path for path, type_ in names.items() if type_ == "f32[embed=4, mlp=8]"] == [
        "state.moments.0.mu.mlp.up.kernel",
        "state.moments.0.nu.mlp.up.kernel",
        "state.params.mlp.up.kernel",
    ]


def test_names_travel_through_static_leaves():
    eqx = pytest.importorskip("equinox")
    mlp = eqx.nn.MLP(4, 3, 8, 1, key=jax.random.key(0))
    names = names_of({"*.layers.0.weight": "mlp embed"}, mlp, array(4), of=lambda model, x: model(x))
    assert names["model.layers.0.weight"] == "f32[mlp=8, embed=4]"
    assert names["x"] == "f32[embed=4]"


def test_a_bool_of_an_equinox_module_is_static():
    """`if` reads it, as under `eqx.filter_jit`; a bool beside the module is an array, as under `jax.jit`."""
    eqx = pytest.importorskip("equinox")
    attention = eqx.nn.MultiheadAttention(2, 4, inference=True, key=jax.random.key(0))

    def step(model, x, scaled):
        return model(x, x, x) * jnp.where(scaled, 2.0, 1.0)

    graph = ir.trace(step, attention, array(3, 4), True, names={"x": "position embed"})
    assert graph.input_paths[-2:] == ("x", "scaled")
    assert not any("inference" in path for path in graph.input_paths)
    noisy = eqx.tree_at(lambda model: model.dropout.inference, attention, False)
    with pytest.raises(RuntimeError, match="Dropout requires a key"):
        ir.trace(step, noisy, array(3, 4), True)


def test_what_the_step_makes_is_shown_and_read_back_and_no_plan_speaks_of_it():
    def step(w, x):
        times = jnp.linspace(0.0, 1.0, 6)
        history = jnp.zeros((8, 4))
        for i in range(2):
            history = history.at[i].set(x @ w)
        return times, history, jnp.stack([x, x, x])

    graph = ir.trace(step, array(4, 4), array(4), names={"w": "embed mlp", "x": "embed"})
    assert [str(value.type) for value in graph.outputs] == [
        "f32[iota~1=6]",
        "f32[broadcast~1=8, mlp=4]",
        "f32[stack~1=3, embed=4]",
    ]
    assert ir.parse(str(graph)) == graph
    assert graph.outputs[1].type.names == ("mlp",)
    assert graph.axis_sizes() == {"embed": 4, "mlp": 4}


def test_an_argument_that_meets_only_what_the_step_makes_is_still_without_a_name():
    graph = ir.trace(lambda x: x + jnp.arange(4.0), array(4))
    assert str(graph.inputs[0].type) == "f32[_=4]"
    assert list(unnamed(graph)) == ["x"]


def applied(module, params, x):
    return module.apply(params, x)


class TestBoxes:
    def test_linen(self):
        nn = pytest.importorskip("flax.linen")
        for wrap in (nn.with_partitioning, nn.with_logical_partitioning):
            dense = nn.Dense(8, kernel_init=wrap(nn.initializers.lecun_normal(), ("embed", "mlp")))
            params = jax.eval_shape(dense.init, jax.random.key(0), jnp.ones((2, 4)))
            names = names_of(None, params, array(2, 4), of=functools.partial(applied, dense))
            assert names == {
                "params.params.bias": "f32[mlp=8]",
                "params.params.kernel": "f32[embed=4, mlp=8]",
                "x": "f32[_=2, embed=4]",
            }

    def test_nnx_modules_states_and_moments(self):
        nnx = pytest.importorskip("flax.nnx")
        optax = pytest.importorskip("optax")
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("embed", "mlp"))
        with nnx.use_eager_sharding(False):
            model = nnx.Linear(4, 8, kernel_init=init, rngs=nnx.Rngs(0))
            optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        assert names_of(None, model, array(2, 4), of=lambda model, x: model(x)) == {
            "model.bias": "f32[mlp=8]",
            "model.kernel": "f32[embed=4, mlp=8]",
            "x": "f32[_=2, embed=4]",
        }
        _, state = nnx.split((model, optimizer))
        names = names_of(None, state, of=lambda state: state)
        assert [path for path, type_ in names.items() if type_ == "f32[embed=4, mlp=8]"] == [
            "state.0.kernel",
            "state.1.opt_state.0.mu.kernel",
            "state.1.opt_state.0.nu.kernel",
        ]

    def test_a_pattern_comes_before_a_box_and_needs_no_attribute_of_it(self):
        nn = pytest.importorskip("flax.linen")
        params = {"kernel": nn.Partitioned(array(4, 8), ("embed", "mlp")), "bias": array(8)}
        given = names_of({"*.kernel": "inputs outputs"}, params, of=lambda params: params)
        assert given["params.kernel"] == "f32[inputs=4, outputs=8]"

    def test_a_pattern_may_have_the_attribute_of_a_box(self):
        nn = pytest.importorskip("flax.linen")
        params = {"kernel": nn.Partitioned(array(4, 8), (None, None))}
        assert names_of({"*.kernel.value": "a b"}, params, of=lambda params: params) == {
            "params.kernel": "f32[a=4, b=8]"
        }

    def test_a_key_called_value_is_no_box(self):
        params = {"query": array(4, 8), "value": array(4, 8)}
        assert names_of({"*.value": "a b"}, params, of=lambda params: params) == {
            "params.query": "f32[_=4, _=8]",
            "params.value": "f32[a=4, b=8]",
        }

    def test_a_box_of_fewer_names_and_one_that_does_not_fit(self):
        nn = pytest.importorskip("flax.linen")
        params = {"a": nn.Partitioned(array(4, 8), ("embed",)), "b": nn.Partitioned(array(4), ("embed", "mlp"))}
        assert list(names_of(None, params, of=lambda params: params).values()) == ["f32[embed=4, _=8]", "f32[_=4]"]


class TestErrors:
    def test_a_pattern_that_matches_nothing(self):
        assert refused({"*.mlp.upp.kernel": "embed mlp"}) == (
            "no array matches `*.mlp.upp.kernel`; did you mean `state.mlp.up.kernel` or `state.mlp.down.kernel`?"
        )
        assert refused({"zzz": "embed mlp"}) == (
            "no array matches `zzz`: the arrays are `state.head.kernel`, `state.mlp.down.bias`, "
            "`state.mlp.down.kernel`, `state.mlp.up.bias`, `state.mlp.up.kernel`, `batch.target`, `batch.tokens`"
        )

    def test_a_pattern_behind_another(self):
        assert refused({"*.kernel": "a b", "*.head.kernel": "embed classes"}) == (
            "`*.head.kernel` names nothing: `*.kernel` above it matches first all that it matches, so write the more "
            "special pattern above the more general"
        )

    def test_another_rank(self):
        assert refused({"*.tokens": "batch embed"}) == (
            "`batch.tokens` has 3 dims, (2, 5, 4), and 2 names, `batch embed` (from `*.tokens`): write one name a dim, "
            '`_` for none, `...` for any number of dims, or leave it unnamed: "batch.tokens": None above that pattern'
        )
        assert refused(lambda path, shape: "batch" if path == "batch.tokens" else None) == (
            "`batch.tokens` has 3 dims, (2, 5, 4), and 1 name, `batch`: write one name a dim, `_` for none, `...` for "
            'any number of dims, or leave it unnamed: "batch.tokens": None'
        )
        assert "has 1 dim, (8,), and 3 names, `a ... b`" in refused({"*.up.bias": "a ... b"})

    def test_another_size(self):
        assert refused({"*.up.kernel": "embed=4 mlp=16"}) == (
            "`state.mlp.up.kernel` of shape (4, 8) has 8 at the place of `mlp=16`: correct the size or leave it out"
        )

    def test_what_are_no_names(self):
        wording = (
            '`state.mlp.up.bias` gets 3, which are not names: write text such as "embed mlp", or one name a dim such '
            'as ("embed", None), with at most one `...`'
        )
        assert refused({"*.up.bias": 3}) == wording
        assert "gets '... ...', which are not names" in refused({"*.up.bias": "... ..."})
        assert refused(["embed"]) == (
            "`names` is a list: give a mapping from path patterns to names, such as "
            '{"*.mlp.up.kernel": "embed mlp"}, or a function of path and shape that returns names or None'
        )

    def test_all_faults_are_said(self):
        assert len(refused({"*.up.bias": "a b", "nothing": "c"}).splitlines()) == 2

    def test_a_step_without_arrays(self):
        with pytest.raises(ir.NamingError, match=re.escape("no array matches `x`: the step has no arrays")):
            ir.trace(lambda: 1.0, names={"x": "embed"})


def test_near_paths_compare_the_ends():
    paths = ["state.params.layer_0.mlp.up.kernel", "state.params.layer_0.attention.query.kernel", "batch.tokens"]
    assert near_paths("*.atention.query.kernel", paths)[0] == "state.params.layer_0.attention.query.kernel"
    assert near_paths("batch.token", paths) == ["batch.tokens"]
