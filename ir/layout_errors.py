"""Every wording of what is wrong with how the operands of an op are laid out over the mesh: the state, and the fix."""

from collections.abc import Sequence

from ir.types import Dim


def axes_text(axes: Sequence[str]) -> str:
    return ", ".join(axes)


def _state(dim: Dim) -> str:
    text = f"`{dim.name or '_'}={dim.size}`"
    return f"{text} is sharded over {axes_text(dim.mesh)}" if dim.mesh else f"{text} is replicated"


def dim_must_be_whole(dim: Dim, op: str) -> str:
    return f"{_state(dim)}, but {op} needs all of it on each device: all_gather it over {axes_text(dim.mesh)} first"


def shards_not_aligned(dim: Dim, other: Dim) -> str:
    return (
        f"{_state(dim)}, but the dim that it meets, {_state(other)}: the shards of a device are not of the same "
        "places; bring one of the two to the layout of the other first"
    )


def axis_shards_two(axis: str, dim: Dim, other: Dim) -> str:
    return (
        f"{axis} shards `{dim.name or '_'}={dim.size}` here and `{other.name or '_'}={other.size}` of another operand: "
        "a device would combine only some of the pairs; all_gather one of the two over it first"
    )


def pending_and_sharded(axis: str, dim: Dim) -> str:
    return (
        f"it is partial over {axis}, which shards `{dim.name or '_'}={dim.size}` of another operand: a device would "
        f"combine its part of the one only with its shard of the other; make the pending reduction over {axis} first"
    )


def not_linear(axes: Sequence[str], op: str) -> str:
    return (
        f"it is partial over {axes_text(axes)}, and {op} of the parts does not add up to {op} of the sum: all_reduce "
        f"or reduce_scatter it over {axes_text(axes)} first"
    )


def other_reduction(axes: Sequence[str], reduction: str, op: str) -> str:
    return (
        f"it is partial over {axes_text(axes)} by {reduction}, and {op} does not commute with {reduction}: all_reduce "
        f"it over {axes_text(axes)} first"
    )


def added_to_partial(axes: Sequence[str], partial: str) -> str:
    return (
        f"it is not partial over {axes_text(axes)}, as {partial} is: each device would bring all of it, and the "
        f"pending sum over {axes_text(axes)} would count it once a device; make that sum first"
    )


def two_partials(axes: Sequence[str], other: str) -> str:
    return (
        f"it is partial over {axes_text(axes)}, and so is {other}: a product of sums is not the sum of the products; "
        f"make one of the two sums first"
    )


def reductions_differ(first: str, second: str) -> str:
    return f"it is partial by {second}, and what it meets by {first}: make one of the two reductions first"


def merged_behind(dim: Dim) -> str:
    return (
        f"{_state(dim)} and stands behind another dim that it is merged with: the shards of a device would not be one "
        f"shard of the merged dim; all_gather it over {axes_text(dim.mesh)} first"
    )


def two_layouts_cross(dim: str, outside: str, inside: str) -> str:
    return f"{dim} is {outside} outside and {inside} inside: bring it to the layout of the inside first"


def carry_changes(before: str, after: str) -> str:
    return f"a carry is {before} when a trip starts and {after} when it ends: both must be laid out alike"


def bodies_differ(first: str, other: str) -> str:
    return f"one body gives {first}, another {other}: all must give the same layout"


def predicate_not_replicated(layout: str) -> str:
    return (
        f"what decides is {layout}: each device would decide for itself; it must be replicated, and no reduction may "
        "be pending"
    )


def nothing_pending(axes: Sequence[str], found: Sequence[str]) -> str:
    state = f"partial over {axes_text(found)} only" if found else "not partial"
    fix = f"reduce over {axes_text(found)} instead" if found else "leave the collective out"
    return (
        f"it is {state}: the reduction over {axes_text(axes)} would count what every device has already once a device; "
        f"{fix}"
    )


def gathers_other_axes(dim: Dim, axes: Sequence[str]) -> str:
    return (
        f"{_state(dim)}: only the innermost of its mesh axes can be taken from it, in their order, and "
        f"{axes_text(axes)} are not"
    )


def axis_is_used(axis: str, use: str) -> str:
    return f"{axis} {use} already: a mesh axis is used at most once in a value"


def one_dim_moves(count: int, verb: str) -> str:
    return f"{count} dims {verb} mesh axes where exactly one does"


def scatters_a_maximum(reduction: str) -> str:
    return f"it is partial by {reduction}, and a reduce_scatter adds: all_reduce it, then reshard"


def permutes_others(before: str, after: str) -> str:
    return f"it is {before} and would be {after}: devices can exchange shards of one shape only"


def other_layout(found: str, rule: str, unpaid: Sequence[str]) -> str:
    """`unpaid` are the mesh axes of reductions that are pending by the rule and not by what is said."""
    fix = (
        f"all_reduce or reduce_scatter it over {axes_text(unpaid)} before it is used so"
        if unpaid
        else "say so in its type, and bring it to another layout behind"
    )
    return f"the result is said to be {found}, but on the shards of its operands the operation makes {rule}: {fix}"


def does_not_divide(dim: Dim, count: int) -> str:
    return (
        f"`{dim.name or '_'}={dim.size}` is sharded over {axes_text(dim.mesh)}, {count} devices, which do not divide it"
    )


def unknown_axis(axis: str, known: Sequence[str]) -> str:
    return f"{axis} is no axis of the mesh, which has {axes_text(known)}"


def not_sharded_over(found: str, axes: Sequence[str]) -> str:
    return f"it is {found}: no dim is sharded over {axes_text(axes)}, so there is nothing to gather"


def adds_out_of_order(axes: Sequence[str], partial: Sequence[str]) -> str:
    return (
        f"it is partial over {axes_text(partial)} by a sum in order, of which neighbours come first: over "
        f"{axes_text(axes)} it would be added in another order; make the reduction over the innermost axes first"
    )


def trips_use_axes(axes: Sequence[str], value: str) -> str:
    return (
        f"its trips are shared out over {axes_text(axes)}, and inside {value} is laid out over that: devices make "
        "other trips at the same time; inside, nothing can be sharded over, or sent along, these axes"
    )


def goes_round(axes: Sequence[str], wanted: int, found: int) -> str:
    if not axes:
        return f"nothing of it goes round, but it has bodies that pass values on between devices ({found}): remove them"
    return (
        f"its keys are sharded over {axes_text(axes)} as its queries are, so they have to go round: it needs {wanted} "
        f"bodies of ring_permutes over {axes_text(axes)} and has {found}; without, a device would see its own keys only"
    )


def passes_on_otherwise(axes: Sequence[str], body: str) -> str:
    return (
        f"its body `{body}` has to pass on each value that goes round, by one ring_permute over {axes_text(axes)}, and "
        "give them in their order; else devices would combine queries with other keys than they count"
    )
