"""Wrong arguments to the public functions of `passes`: each is a PlanError with what, where and the fix."""

import warnings

import jax
import pytest
import typeguard
from step_models import prepared, traced

import passes
from passes import Plan, PlanError, PlanWarning

CHIPS = "v4, v5e, v5p, v6e, a100, h100, h200"
HARDWARE = f'give the name of a chip ({CHIPS}), "my_chips.yaml:NAME" for one of your own, or a passes.Chip'
RULE = "a name is sharded over a mesh axis or a tuple of them, such as 'data' or ('replica', 'data')"
GRAPH = "the graph of a step, from ir.trace or ir.parse"
PLAN = "a plan, from passes.plan or passes.Plan.by_hand"
MESH = {"data": 4, "model": 2}
ONE = Plan.by_hand({"data": 1}, {})


def by_hand(compute, storage=None):
    return lambda: Plan.by_hand(MESH, compute, storage)


WRONG = {
    "hardware of another type": (lambda: passes.plan(prepared("mlp"), MESH, 5), f"hardware 5 (int): {HARDWARE}"),
    "no hardware": (lambda: passes.plan(prepared("mlp"), MESH, None), f"hardware None (NoneType): {HARDWARE}"),
    "unknown hardware": (
        lambda: Plan.by_hand(MESH, {}, hardware="v5f"),
        f"hardware 'v5f': known are {CHIPS}; did you mean 'v5p'?",
    ),
    "empty hardware": (lambda: Plan.by_hand(MESH, {}, hardware=""), f"hardware '': known are {CHIPS}"),
    "a size that is no number": (
        lambda: passes.plan(prepared("mlp"), {"data": 2.5}),
        "bad mesh `{'data': 2.5}`: axis `data` has size 2.5; sizes must be whole numbers of at least 1",
    ),
    "a graph that is none": (
        lambda: passes.plan("f32[]", MESH),
        f"passes.plan: graph is 'f32[]' (str); pass {GRAPH}",
    ),
    "run a function": (
        lambda: passes.run(len, MESH),
        f"passes.run: graph is {len!r} (builtin_function_or_method); pass {GRAPH}",
    ),
    "run no plan": (lambda: passes.run(traced("mlp"), MESH, plan={}), f"passes.run: plan is {{}} (dict); pass {PLAN}"),
    "dump to a number": (
        lambda: passes.run(traced("mlp"), MESH, dump=5),
        "passes.run: dump is 5 (int); pass the path of a folder, or None",
    ),
    "lower no graph": (lambda: passes.lower(None, ONE), f"passes.lower: graph is None (NoneType); pass {GRAPH}"),
    "lower no plan": (
        lambda: passes.lower(prepared("mlp"), MESH),
        f"passes.lower: plan is {MESH} (dict); pass {PLAN}",
    ),
    "lower_placed no graph": (
        lambda: passes.lower_placed(None, ONE),
        f"passes.lower_placed: graph is None (NoneType); pass {GRAPH}",
    ),
    "lower_placed no plan": (
        lambda: passes.lower_placed(prepared("mlp"), MESH),
        f"passes.lower_placed: plan is {MESH} (dict); pass {PLAN}",
    ),
    "a report of no graph": (
        lambda: ONE.report("f32[]"),
        f"passes.Plan.report: graph is 'f32[]' (str); pass {GRAPH}",
    ),
    "positions out of range": (
        lambda: passes.lower(prepared("mlp"), ONE, at_rest=(2,)),
        "passes.lower: at_rest is (2,) (tuple); pass positions of arguments, from 0 to 1",
    ),
    "a device that is none": (
        lambda: passes.device_mesh(ONE, [0]),
        "passes.device_mesh: devices is [0] (list); pass JAX devices, such as jax.devices()",
    ),
    "input_shardings of a graph": (
        lambda: passes.input_shardings(prepared("mlp"), MESH),
        f"passes.input_shardings: mesh is {MESH} (dict); pass a jax.sharding.Mesh, from passes.device_mesh",
    ),
    "partition": (lambda: passes.partition(3, ONE), f"passes.partition: graph is 3 (int); pass {GRAPH}"),
    "partition without a plan": (
        lambda: passes.partition(prepared("mlp"), None),
        f"passes.partition: plan is None (NoneType); pass {PLAN}",
    ),
    "canonicalize": (lambda: passes.canonicalize([]), f"passes.canonicalize: graph is [] (list); pass {GRAPH}"),
    "check_axes": (lambda: passes.check_axes([]), f"passes.check_axes: graph is [] (list); pass {GRAPH}"),
    "axis_findings": (lambda: passes.axis_findings([]), f"passes.axis_findings: graph is [] (list); pass {GRAPH}"),
    "codes that are none": (
        lambda: passes.check_axes(prepared("mlp"), 5),
        "passes.check_axes: ignore is 5 (int); pass codes of warnings, such as ('repeat',)",
    ),
    "rules that are none": (
        by_hand([("batch", "data")]),
        "compute [('batch', 'data')] (list): give mesh axes by name, such as {'batch': 'data'}",
    ),
    "an axis that is none": (by_hand({"batch": 5}), f"compute of 'batch': 5 (int); {RULE}"),
    "an axis among axes that is none": (
        by_hand({}, {"embed": ("data", 1)}),
        f"storage of 'embed': ('data', 1) (tuple); {RULE}",
    ),
    "a name that is none": (by_hand({3: "data"}), f"compute of 3: 'data' (str); {RULE}"),
    "an unknown mesh axis": (
        by_hand({"batch": "dta"}),
        "compute of 'batch': mesh axis 'dta': this mesh has data, model; did you mean 'data'?",
    ),
    "an axis twice": (
        by_hand({"batch": ("data", "data")}),
        "compute of 'batch': ('data', 'data') names a mesh axis twice; remove one of them",
    ),
}


@pytest.mark.parametrize("name", WRONG)
@typeguard.suppress_type_checks
def test_a_wrong_argument_is_named(name):
    call, message = WRONG[name]
    with pytest.raises(PlanError) as caught:
        call()
    assert str(caught.value) == message


def test_one_mesh_axis_may_be_text():
    plan = Plan.by_hand(MESH, {"batch": "data", "mlp": ["model"]}, {"embed": "data"})
    assert plan == Plan.by_hand("4x2", {"batch": ("data",), "mlp": ("model",)}, {"embed": ("data",)})
    assert plan.compute["batch"] == ("data",)


def test_one_code_may_be_text():
    assert passes.axis_findings(prepared("mlp"), "repeat") == passes.axis_findings(prepared("mlp"), ["repeat"])


def test_every_way_of_writing_a_mesh_plans_the_same():
    plans = [passes.plan(prepared("mlp"), mesh) for mesh in (MESH, "4x2", jax.make_mesh((4, 2), ("data", "model")))]
    assert all((each.mesh, each.compute) == (plans[0].mesh, plans[0].compute) for each in plans)


def test_the_devices_of_a_jax_mesh_are_taken_in_its_order():
    given = jax.sharding.Mesh(jax.devices()[::-1][:2], ("data",))
    made = passes.device_mesh(Plan.by_hand(given, {"batch": "data"}), given)
    assert list(made.devices.flat) == jax.devices()[::-1][:2]


# Rules that a graph cannot follow: mlp has batch=8, embed=16, mlp=32.

UNFOLLOWED = {
    "an unknown name": (
        {"batch": "model", "bacth": "data"},
        {},
        ["the plan shards 'bacth', an axis that graph 'step' does not have; did you mean 'batch'?"],
    ),
    "a size that does not divide": (
        {"batch": ("data", "model")},
        {},
        [
            "compute: 'batch' has size 8, which data=3 × model=4 (12 devices) does not divide, so it is sharded over "
            "model alone; make 'batch' a multiple of 12, or shard it over as many devices as divide 8: 1, 2, 4, 8"
        ],
    ),
    "storage that does not divide": (
        {"batch": "model"},
        {"embed": "data"},
        [
            "storage: 'embed' has size 16, which data=3 (3 devices) does not divide, so it is replicated; "
            "make 'embed' a multiple of 3, or shard it over as many devices as divide 16: 1, 2, 4, 8, 16"
        ],
    ),
    "all that divides": ({"batch": "model"}, {}, []),
}


@pytest.mark.parametrize("name", UNFOLLOWED)
def test_a_rule_that_cannot_be_followed_is_never_silent(name):
    compute, storage, messages = UNFOLLOWED[name]
    plan = Plan.by_hand({"data": 3, "model": 4}, compute, storage)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        passes.partition(prepared("mlp"), plan)
    assert [str(each.message) for each in caught if each.category is PlanWarning] == messages
