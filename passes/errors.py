"""The wording of every error of the passes, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

# No JAX in here: a mesh and the name of a chip are read before JAX is imported, and may be wrong.
if TYPE_CHECKING:
    from ir.graph import Node
    from ir.types import TensorType


class PlanError(Exception):
    """A question that the planner cannot answer: a bad mesh, unknown hardware, a plan that fits nowhere."""


class DoesNotFit(PlanError):
    """No plan of a step fits in the memory of a device."""


class NothingFaster(DoesNotFit):
    """No plan of a step that fits takes less than a limit that the search was given.

    Attributes:
        bound: seconds that none of them can beat: the limit, where the search came to its end.
    """

    def __init__(self, bound: float) -> None:
        self.bound = bound
        super().__init__(f"no plan that fits takes less than {bound:.6g} s")


class AxisErrors(Exception):
    """All axis errors of a graph. `findings` holds them one by one, warnings not among them."""

    def __init__(self, findings: Sequence[Any]) -> None:
        self.findings = tuple(findings)
        super().__init__(f"{counted(len(findings), 'axis error')}\n\n" + "\n\n".join(map(str, findings)))


class AxisWarning(UserWarning):
    """A place that is no axis error and yet looks like a mistake. Its code silences it."""


class PlanWarning(UserWarning):
    """A plan made by hand says something that the graph cannot follow."""


class UnknownCode(ValueError):
    """A code to silence that is no warning's."""


MOST_LINES = 3
"""Of a list in a message, how much is shown."""


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def unknown_code(code: str, known: Sequence[str]) -> UnknownCode:
    listed = nearest(code, known) or "; known are " + ", ".join(known)
    return UnknownCode(f"no finding that can be silenced is called {code!r}{listed}")


def error_not_silenced(code: str, known: Sequence[str]) -> UnknownCode:
    return UnknownCode(
        f"{code!r} is an error, which is fixed and not silenced; what can be silenced is {', '.join(known)}"
    )


MESH_FORMS = (
    "write 8 (data), 4x2 (data, model), 2x4x2 (replica, data, model), 2x16x4x4 (replica, data, sequence, model), or "
    "name the axes: data=4,model=2"
)


def mesh_form(mesh: object) -> PlanError:
    return PlanError(f"bad mesh `{mesh}`: {MESH_FORMS}")


def mesh_kind(mesh: object) -> PlanError:
    return PlanError(
        f"bad mesh `{mesh!r}` ({kind_of(mesh)}): pass {{'data': 4, 'model': 2}}, text such as \"4x2\", "
        "a jax.sharding.Mesh, or a passes.DeviceMesh"
    )


def mesh_empty(mesh: object) -> PlanError:
    return PlanError(f"bad mesh `{mesh}`: a mesh needs at least one axis, each with a size; {MESH_FORMS}")


def mesh_rank(mesh: object, rank: int, most: int) -> PlanError:
    return PlanError(
        f"bad mesh `{mesh}`: {rank} sizes, and names are known for at most {most}; name the axes, outermost first: "
        "replica=2,data=4,expert=2,sequence=2,model=4"
    )


def mesh_size(mesh: object, axis: str, size: object) -> PlanError:
    return PlanError(f"bad mesh `{mesh}`: axis `{axis}` has size {size!r}; sizes must be whole numbers of at least 1")


def mesh_axis_name(mesh: object, axis: object) -> PlanError:
    return PlanError(f"bad mesh `{mesh}`: {axis!r} is not an axis name; names are text, such as 'data'")


def mesh_axis_twice(mesh: object, axis: str) -> PlanError:
    return PlanError(f"bad mesh `{mesh}`: axis `{axis}` is given twice; remove one of them")


def mesh_too_large(mesh: object, devices: int, most: int) -> PlanError:
    return PlanError(f"bad mesh `{mesh}`: it has {devices} devices, and the most is {most}; {MESH_FORMS}")


def kind_of(value: object) -> str:
    return type(value).__name__


def unknown_mesh_axis(name: str, axes: Sequence[str]) -> PlanError:
    return PlanError(f"mesh axis {name!r}: this mesh has {', '.join(axes)}{nearest(name, axes)}")


def rules_kind(role: str, rules: object) -> PlanError:
    return PlanError(f"{role} {rules!r} ({kind_of(rules)}): give mesh axes by name, such as {{'batch': 'data'}}")


def rule_kind(role: str, name: object, axes: object) -> PlanError:
    return PlanError(
        f"{role} of {name!r}: {axes!r} ({kind_of(axes)}); a name is sharded over a mesh axis or a tuple of them, such "
        "as 'data' or ('replica', 'data')"
    )


def rule_mesh_axis(role: str, name: str, axis: str, axes: Sequence[str]) -> PlanError:
    return PlanError(f"{role} of {name!r}: mesh axis {axis!r}: this mesh has {', '.join(axes)}{nearest(axis, axes)}")


def rule_axis_twice(role: str, name: str, axes: object) -> PlanError:
    return PlanError(f"{role} of {name!r}: {axes!r} names a mesh axis twice; remove one of them")


def rule_without_axis(name: str, known: Sequence[str], graph: str) -> str:
    fix = nearest(name, known) or f"; it has {', '.join(known)}"
    return f"the plan shards {name!r}, an axis that graph {graph!r} does not have{fix}"


def rule_does_not_divide(role: str, name: str, size: int, mesh: str, group: int, kept: Sequence[str]) -> str:
    instead = f"sharded over {', '.join(kept)} alone" if kept else "replicated"
    legal = ", ".join(str(n) for n in range(1, min(size, 4096) + 1) if size % n == 0)
    return (
        f"{role}: {name!r} has size {size}, which {mesh} ({group} devices) does not divide, so it is {instead}; "
        f"make {name!r} a multiple of {group}, or shard it over as many devices as divide {size}: {legal}"
    )


def wrong_argument(function: str, argument: str, value: object, expected: str) -> PlanError:
    return PlanError(f"passes.{function}: {argument} is {shown(value)} ({kind_of(value)}); pass {expected}")


def graph_too_deep(function: str, graph: str, deepest: int) -> PlanError:
    return PlanError(f"passes.{function}: bodies of the graph {graph} are nested more than {deepest} deep")


def too_large_to_price(value: str, elements: int) -> PlanError:
    return PlanError(
        f"the value {value} has about 2^{elements.bit_length() - 1} elements, and costs are counted up to 2^63: no "
        "mesh holds it; make its axes smaller"
    )


def too_many_names(names: Sequence[str], most: int) -> PlanError:
    return PlanError(
        f"one operation has {len(names)} axes that could be sharded ({', '.join(names[:3])}, …), and at most {most} "
        "are compared: merge some of its axes"
    )


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


SHOWN_CHARACTERS = 60


def not_yaml(path: str, line: int, problem: str) -> PlanError:
    return PlanError(f"{path}:{line}: not valid YAML: {problem}")


def does_not_fit(
    peak: int,
    capacity: int,
    hardware: str,
    mesh: str,
    parts: Mapping[str, int],
    batch: Mapping[str, int],
    model: Mapping[str, int],
    advice: str = "",
) -> DoesNotFit:
    """`parts` are the bytes of the leanest plan by kind; `batch` and `model` the sizes of axes to make smaller;
    `advice` what fills the device and what to shard next."""
    listed = ", ".join(f"{kind} {gib(part)}" for kind, part in sorted(parts.items(), key=lambda p: -p[1]) if part)
    state = sum(parts.get(kind, 0) for kind in ("parameters", "optimizer", "gradients"))
    if 2 * state > sum(parts.values()):
        smaller = f"make the model smaller ({_sized(model)})"
    else:
        smaller = (
            f"make the batch smaller ({_sized(batch)}), compute it in parts (microbatches), use gradient checkpointing"
        )
    return DoesNotFit(
        f"no plan fits: the leanest on mesh {mesh} needs {gib(peak)} a device ({listed}), and {hardware} has "
        f"{gib(capacity)}; {smaller}, or use more devices{advice}"
    )


def no_devices(devices: int) -> PlanError:
    return PlanError(f"devices is {devices}: a mesh needs at least 1")


def no_mesh_fits(devices: int, refused: Sequence[tuple[str, str]]) -> PlanError:
    """No factoring of some devices has a plan; `refused` are the meshes with the reasons."""
    listed = "".join(f"\n  {mesh}: {reason}" for mesh, reason in refused)
    return PlanError(f"no mesh of {counted(devices, 'device')} has a plan that fits:{listed}")


def what_fills(rows: Sequence[tuple[str, Mapping[str, int], int, int]], count: int) -> str:
    """Lines of what fills a device: kind, axes, how many arrays, bytes. `count` is how many rows there are."""
    lines = [
        f"  {gib(size):>10}  {kind}: {counted(arrays, 'array')} [{', '.join(f'{n}={s}' for n, s in axes.items())}]"
        for kind, axes, arrays, size in rows
    ]
    more = [f"  and {count - len(rows)} smaller"] if count > len(rows) else []
    return "\n" + "\n".join(["what fills the device:", *lines, *more])


def shard_next(name: str, role: str, axis: str, saves: int, costs: float, fits: bool) -> str:
    used = {"compute": "in use", "storage": "at rest"}[role]
    price = f"costs {1e6 * costs:,.0f} µs a step" if costs > 0 else "costs no time"
    enough = " and makes it fit" if fits else ""
    option = {"compute": f"--compute {name}={axis}", "storage": f"--storage {name}={axis}"}[role]
    return (
        f"\nthe cheapest name to shard next: `{name}` over {axis} {used} saves {gib(saves)}{enough}, and {price} "
        f"({option}, in a plan by hand or in the file of a plan)"
    )


def gib(count: float) -> str:
    """Bytes as people read them: `14.90 GiB`, `12.50 MiB`, `2.05 KiB`, `80 B`."""
    for unit, size, least in (("GiB", 2**30, 2**30 / 10), ("MiB", 2**20, 2**20 / 10), ("KiB", 2**10, 2**10)):
        if count >= least:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"


def _sized(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"`{name}` is {size}" for name, size in sizes.items()) or "its axes have no names"


def no_origin(name: str) -> PlanError:
    return PlanError(
        f"graph {name!r} was parsed from text: it can be checked, planned and costed, but only a graph from ir.trace "
        "can be lowered"
    )


CALL_TRACE_AGAIN = "trace, plan and lower the step for these arguments"
CALL_PASS_AN_ARRAY = "pass an array"
CALL_PASS_RAW = "the step was traced with a raw array; pass x.array"


def call_by_name(name: str, given: Sequence[str], parameters: Sequence[str]) -> str:
    names = ", ".join(f"`{each}`" for each in given)
    return f"{name} takes its arguments by position, and {names} came by name; call {name}({', '.join(parameters)})"


def call_count(name: str, parameters: Sequence[str], given: int) -> str:
    wanted = f"{name} takes {counted(len(parameters), 'argument')} ({', '.join(parameters)}); got {given}"
    missing = [f"`{each}`" for each in parameters[given:]]
    return wanted + (f": {', '.join(missing)} missing" if missing else f": {given - len(parameters)} too many")


def call_missing(path: str, wanted: str) -> str:
    return f"argument `{path}` is missing: it is {wanted}"


def call_extra(path: str, given: str) -> str:
    return f"argument `{path}` ({given}) is none of the step's; leave it out"


def call_leaf(path: str, wanted: str, given: str, fix: str) -> str:
    return f"argument `{path}` is {wanted}; got {given}: {fix}"


def call_differs(name: str, found: Sequence[str]) -> str:
    more = [f"and {len(found) - MOST_LINES} more"] if len(found) > MOST_LINES else []
    if len(found) == 1:
        return f"{name}: {found[0]}"
    return f"{name} was traced for other arguments\n" + "\n".join(f"  {line}" for line in [*found[:MOST_LINES], *more])


def call_structure(name: str, wanted: str, given: str) -> str:
    return (
        f"{name} was traced for arguments of another structure (their arrays agree; what is static in them differs)\n"
        f"  traced for {wanted}\n  given      {given}\n  fix: {CALL_TRACE_AGAIN}"
    )


def call_name_it(names: Sequence[str]) -> str:
    return f"give it its axes, hax.named(x, {tuple(names)!r})"


def call_rearrange(names: Sequence[str]) -> str:
    return f"the same axes in another order; pass x.rearrange({tuple(names)!r})"


def call_dtype(dtype: str) -> str:
    return f"another dtype; pass x.astype({dtype!r})"


def call_sizes(sizes: Sequence[tuple[str, int, int]]) -> str:
    listed = ", ".join(f"`{name}` is {given} and was {traced}" for name, given, traced in sizes)
    return f"{listed} when traced; {CALL_TRACE_AGAIN}"


def call_rename(renamed: Mapping[str, str]) -> str:
    return f"other axes of the same sizes; if they are the same, pass x.rename({dict(renamed)!r})"


def wrong_devices(wanted: int, given: int, platform: str) -> PlanError:
    return PlanError(
        f"the plan is for {wanted} devices, {given} given: pass {wanted} devices"
        + (f", or set XLA_FLAGS=--xla_force_host_platform_device_count={wanted}" if platform == "cpu" else "")
    )


def nearest_name(name: str, known: Sequence[str]) -> str | None:
    from haliax.errors import nearest_name  # brings JAX along, for which only an error has the time

    return nearest_name(name, known)


def nearest(name: str, known: Sequence[str]) -> str:
    close = nearest_name(name, known)
    return f"; did you mean {close!r}?" if close else ""


class UnknownPass(ValueError):
    """A name that no pass has."""


class BadOption(ValueError):
    """An option that a pass does not have, or a value that it cannot have."""


def unknown_pass(name: str, known: Sequence[str]) -> UnknownPass:
    return UnknownPass(f"no pass is called {name!r}{nearest(name, known)} (the passes are {', '.join(known)})")


def unknown_option(name: str, stem: str, known: Sequence[str]) -> BadOption:
    has = f"its options are {', '.join(known)}" if known else "it has none"
    return BadOption(f"the pass {stem} has no option {name!r}: {has}{nearest(name, known)}")


def bad_option(name: str, text: str, stem: str, values: str) -> BadOption:
    return BadOption(f"option {name}={text} of the pass {stem}: give {values}, such as {_EXAMPLES[values]}")


_EXAMPLES = {
    "true or false": "true",
    "a whole number": "8",
    "a number": "0.5",
    "a word": "data",
    "words with commas between": "repeat,index",
    "whole numbers with commas between": "0,1",
    "numbers with commas between": "0.5,1",
}


def no_mesh(stem: str) -> PlanError:
    return PlanError(f"the pass {stem} needs a mesh: give one, such as data=4, model=2 (--mesh 4x2)")


def no_plan(stem: str) -> PlanError:
    return PlanError(f"the pass {stem} needs a plan: run the pass plan before it, or give one made by hand")


def no_subject(method: str) -> PlanError:
    if method == "report":
        return PlanError("a plan by hand knows no step to report on: give the traced graph, plan.report(graph)")
    return PlanError(f"a plan by hand knows no step: give the traced graph, plan.{method}(tree, graph=graph)")


def partitioned_already(graph: str, kind: str, value: str) -> PlanError:
    return PlanError(
        f"graph {graph!r} is partitioned already ({value} is made by {kind}): give the graph as it was before partition"
    )


def another_plan(value: str, found: TensorType, planned: TensorType) -> PlanError:
    return PlanError(
        f"{value} was laid out by another plan: it is {found}, this plan makes it {planned}; "
        "give the plan that the graph was laid out by, or the graph as it was before plan"
    )


def left_to_the_compiler(node: Node) -> str:
    what = f"{node.kind}.{node.fn}" if node.fn else node.kind
    where = f" ({node.source})" if node.source is not None else ""
    return (
        f"`{what}`{where} cannot run on one device's shards, so the whole step is left to the compiler's partitioner, "
        'as with partitioner="xla"; its collectives may differ from those printed'
    )


def not_on_one_device(node: Node, error: Exception) -> PlanError:
    line = f" ({node.source})" if node.source is not None else ""
    reason = str(error).strip().partition("\n")[0]
    return PlanError(
        f"the `{node.fn}`{line} cannot be computed on one device, so there is nothing to compare with: "
        f"{reason or type(error).__name__}"
    )


def no_such_input(position: int, count: int) -> PlanError:
    return PlanError(f"input {position} cannot be stored as state is: the graph has {count}, counted from 0")


def _expected(step: str, arguments: Sequence[str]) -> str:
    listed = " or ".join(f"`{name}`" for name in arguments)
    return (
        f"give {listed or 'the result'} of `{step}`, all its arguments as a tuple, its result, or a part of one of them"
    )


def _paths(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MOST_LINES} more" if len(paths) > MOST_LINES else ""
    return ", ".join(f"`{path}`" for path in paths[:MOST_LINES]) + more


def tree_unknown(step: str, arguments: Sequence[str], paths: Sequence[str]) -> PlanError:
    what = (
        f"the tree has {_paths(paths)}"
        if any(paths)
        else "the tree is one array"
        if paths
        else "the tree has no arrays"
    )
    return PlanError(f"{what}, which is not a tree of the step that was planned: {_expected(step, arguments)}")


def tree_differs(
    step: str, arguments: Sequence[str], nearest: str, missing: Sequence[str], extra: Sequence[str]
) -> PlanError:
    faults = [f"{word} {_paths(paths)}" for word, paths in (("lacks", missing), ("has besides", extra)) if paths]
    what = f"the tree is nearest to `{nearest}` but {' and '.join(faults) or 'has another order'}"
    return PlanError(f"{what}: {_expected(step, arguments)}")


def tree_shapes(step: str, place: str, differing: Sequence[tuple[str, str, tuple[int, ...]]]) -> PlanError:
    listed = "; ".join(
        f"`{path}` is of shape {given}, and of {known} in the step" for path, known, given in differing[:MOST_LINES]
    )
    return PlanError(f"the tree is `{place}` of `{step}`, but {listed}: trace and plan the step for these shapes")


def tree_ambiguous(step: str, first: str, second: str) -> PlanError:
    return PlanError(
        f"the tree may be `{first}` or `{second}` of `{step}`, which are sharded differently: "
        "give the whole argument and take its part from the result"
    )


def unknown_state(word: str, known: Sequence[str]) -> PlanError:
    return PlanError(f"{word!r} is not a kind of state{nearest(word, known)} (there are {', '.join(known)})")


def state_without_optimizer(kinds: Sequence[str]) -> PlanError:
    return PlanError(
        f"{' and '.join(kinds)} cannot be stored over mesh axes that the optimizer's state is not stored over: the "
        "update is computed where that is; add optimizer"
    )
