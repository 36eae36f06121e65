"""The wording of every error about a plan as a document, and about what is pinned or forbidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt, lcm

from passes.errors import DoesNotFit, PlanError, nearest, nearest_name, rule_axis_twice, rule_mesh_axis


def document_empty(source: str) -> PlanError:
    return PlanError(f"{source}: it holds no plan; `levanter compile --save-plan {source}` writes one")


def document_key(source: str, line: int, key: str, known: Sequence[str]) -> PlanError:
    close = nearest_name(key, known)
    fix = f"did you mean `{close}`?" if close else f"known are {', '.join(known)}"
    return PlanError(f"{source}:{line}: unknown key `{key}` of a plan; {fix}")


def document_key_twice(where: str, key: str, what: str, first: int) -> PlanError:
    return PlanError(f"{where}: `{key}` of {what} is given twice (first at line {first}); remove one of them")


def document_value(where: str, key: str, value: str, expected: str) -> PlanError:
    return PlanError(f"{where}: `{key}` is {value}; expected {expected}")


def document_choice(where: str, key: str, value: str, known: Sequence[str]) -> PlanError:
    return PlanError(f"{where}: `{key}` is `{value}`; write one of {', '.join(known)}")


def document_lacks(source: str, key: str) -> PlanError:
    return PlanError(f"{source}: the plan has no `{key}`; `levanter compile --save-plan {source}` writes a whole one")


def document_mesh_axis(source: str, role: str, name: str, axis: str, axes: Sequence[str]) -> PlanError:
    return PlanError(f"{source}: {rule_mesh_axis(role, name, axis, axes)}")


def document_axis_twice(source: str, role: str, name: str, axes: object) -> PlanError:
    return PlanError(f"{source}: {rule_axis_twice(role, name, axes)}")


def in_document(source: str, error: PlanError) -> PlanError:
    return PlanError(f"{source}: {error}")


def document_unreadable(source: str, reason: str) -> PlanError:
    return PlanError(f"cannot read the plan {source}: {reason}")


def document_unwritable(source: str, reason: str) -> PlanError:
    return PlanError(f"cannot write the plan {source}: {reason}")


def document_name(source: str, role: str, name: str, known: Sequence[str], model: str | None) -> PlanError:
    fix = nearest(name, known) or f"; it has {', '.join(known)}"
    made = f" ({source} was made for {model})" if model else ""
    return PlanError(f"{source}: {role} of {name!r}: the step has no axis of that name{fix}{made}")


def document_scanned(source: str, role: str, name: str) -> PlanError:
    return PlanError(
        f"{source}: {role} of {name!r}: a loop scans over this axis, so every device needs each slice; remove the line"
    )


def document_size(source: str, role: str, name: str, size: int, mesh: str, group: int) -> PlanError:
    more = f"; or pad it: `padding: {{{name}: {-(-size // group) * group}}}`" if role == "compute" else ""
    return PlanError(f"{source}: {role} of {name!r}: {does_not_divide(size, mesh, group)}{more}")


def does_not_divide(size: int, mesh: str, group: int) -> str:
    """Why an axis of a size cannot be sharded over a group of devices, and the sizes that can."""
    legal = ", ".join(str(n) for n in range(1, min(size, 4096) + 1) if size % n == 0)
    lower, upper = size // group * group, -(-size // group) * group
    sizes = " or ".join(str(n) for n in (lower, upper) if n)
    tiles = padded(size, group)
    more = f", or to {tiles}, which fills tiles of {TILE}" if tiles not in (lower, upper) and size > TILE else ""
    return (
        f"{factored(size)} does not divide by {group} ({mesh}); set its size to {sizes}{more}, or shard it over as "
        f"many devices as divide it: {legal}"
    )


TILE = 128
"""Elements to which an axis is best padded: the width of a TPU's tile, and a multiple of what other chips want."""


def padded(size: int, group: int) -> int:
    """The next size above that a group of devices divides and that fills tiles."""
    unit = lcm(group, TILE)
    return -(-size // unit) * unit


def factored(size: int) -> str:
    """`50257 = 29·1733`, `4096 = 2^12`; a prime as it is."""
    left, powers = size, dict[int, int]()
    for prime in (2, *range(3, isqrt(size) + 1, 2)):
        while left % prime == 0:
            powers[prime], left = powers.get(prime, 0) + 1, left // prime
    if left > 1:
        powers[left] = powers.get(left, 0) + 1
    if sum(powers.values()) < 2:
        return str(size)
    return f"{size} = " + "·".join(f"{prime}^{count}" if count > 1 else str(prime) for prime, count in powers.items())


def pinned_and_forbidden(name: str, axes: Sequence[str]) -> PlanError:
    return PlanError(f"{name!r} is pinned to {', '.join(axes)} and forbidden there; remove one of the two")


def choice_forbidden(name: str) -> PlanError:
    return PlanError(
        f"forbid of {name!r}: only mesh axes can be forbidden, to the name of an axis; pin {name!r} to what it is to be"
    )


def constraint_name(word: str, name: str, known: Sequence[str], graph: str) -> PlanError:
    fix = nearest(name, known) or f"; it has {', '.join(known)}"
    return PlanError(f"{word} of {name!r}: {graph!r} has no axis of that name{fix}")


def pin_does_not_divide(name: str, size: int, mesh: str, group: int) -> PlanError:
    return PlanError(f"pin of {name!r}: {does_not_divide(size, mesh, group)}; or pin padding={name} besides")


def pin_without_choice(name: str, reason: str) -> PlanError:
    return PlanError(f"pin of {name!r}: it cannot be sharded: {reason}")


def nothing_is_allowed(constraints: str) -> PlanError:
    return PlanError(
        f"no plan is left: {constraints}. A mesh axis goes to one name of an array, and only one name is stored over "
        "axes that it is not computed over; remove one of these, or write the plan by hand"
    )


def explained_name(name: str, known: Sequence[str], graph: str) -> PlanError:
    fix = nearest(name, known) or f"; it has {', '.join(known)}"
    return PlanError(f"nothing to explain of {name!r}: {graph!r} has no axis of that name{fix}")


def pins_beside_a_plan(constraints: str) -> PlanError:
    return PlanError(
        f"a whole plan is given, and {constraints}: pins are for the search; edit the plan, or leave it out"
    )


def nothing_fits_with(constraints: str, error: PlanError) -> DoesNotFit:
    return DoesNotFit(f"with {constraints}, {error}")


def reason_of(error: Exception) -> str:
    """Why a file cannot be read or written, in lower case."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (getattr(error, "strerror", None) or str(error)).lower()


def batch_undivided(name: str, size: int, axis: str, devices: int, fewer: int) -> str:
    """A batch that a mesh axis does not divide."""
    lower, upper = size // devices * devices, -(-size // devices) * devices
    sizes = " or ".join(f"{each:,}" for each in (lower, upper) if each)
    other = f", or the mesh axis to {axis}={fewer}" if fewer > 1 else ""
    return (
        f"{name}={size:,} does not divide by {axis}={devices:,}, so no plan shares it out over {axis}; set {name} to "
        f"{sizes}{other}"
    )


def state_undivided(sizes: Mapping[str, int], axis: str, devices: int, better: int, names: Sequence[str]) -> str:
    """A mesh axis that divides no name of the state."""
    listed = ", ".join(f"{name}={size}" for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:4])
    other = f"; {axis}={better} divides {', '.join(names)}" if better > 1 else ""
    held = "each of its devices holds all of it"
    return f"{axis}={factored(devices)} divides no axis of the state ({listed}): {held}{other}"


def pinned_network(word: str) -> PlanError:
    return PlanError(
        f"pin of network to {word!r}: give each mesh axis its part, such as network=data:4x4x1,model:1x1x4; or pin "
        "network=usual"
    )


def remat_beside(word: str, others: Sequence[str]) -> PlanError:
    listed = ", ".join(others)
    return PlanError(
        f"remat is `{word}` and {listed}: `{word}` stands alone; leave it out to keep {listed}, or leave out the others"
    )


def remat_name(name: str, known: Sequence[str]) -> PlanError:
    if not known:
        return PlanError(
            f"remat of {name!r}: the step has no loop over layers whose backward pass reads what its forward pass has "
            "made, so nothing of it can be computed again; write none, or leave it out"
        )
    fix = nearest(name, known) or f"; they have {', '.join(known)}"
    return PlanError(
        f"remat of {name!r}: it is neither none nor full, and no product in a loop over layers has that name{fix}"
    )


def padding_name(name: str, known: Sequence[str]) -> PlanError:
    fix = nearest(name, known) or f"; it has {', '.join(known)}"
    return PlanError(f"padding of {name!r}: the step has no axis of that name{fix}")


def padding_too_short(name: str, size: int, own: int) -> PlanError:
    return PlanError(
        f"padding of {name!r}: {size} is less than its own size, {own}; write a larger size, or leave it out"
    )


def padding_unread(written: str) -> PlanError:
    return PlanError(f"padding of {written!r}: write a name and a size, such as vocab=50260")


def padding_in_vain(name: str, size: int, mesh: str, scanned: bool) -> PlanError:
    why = f"{mesh} divides its size, {size}"
    if scanned:
        why = "a loop scans over this axis, so every device needs each slice"
    return PlanError(f"padding of {name!r}: {why}; leave it out")


def moments_are_traced(source: str = "") -> PlanError:
    """`source` is the file of a plan that asks for them."""
    return PlanError(
        f"{source}{': ' * bool(source)}moments: the step is planned as it was traced, and what its optimizer keeps is "
        "in it; set that in the step, or plan a model of a configuration: levanter compile --model NAME "
        "--pin moments=bfloat16"
    )


def gradients_are_traced(source: str = "") -> PlanError:
    """`source` is the file of a plan that asks for them."""
    return PlanError(
        f"{source}{': ' * bool(source)}gradients: the step is planned as it was traced, and what gradients are kept "
        "in is in it; set that in the step, or plan a model of a configuration: levanter compile --model NAME "
        "--pin gradients=bfloat16"
    )


def microbatches_are_traced(source: str = "") -> PlanError:
    """`source` is the file of a plan that asks for them."""
    return PlanError(
        f"{source}{': ' * bool(source)}microbatches: the step is planned as it was traced, and how often it goes over "
        "parts of the batch is in it; set that in the step, or plan a model of a configuration: levanter compile "
        "--model NAME --pin microbatches=4"
    )


def attention_word(word: str, known: Sequence[str]) -> PlanError:
    return PlanError(f"attention is `{word}`: write {' or '.join(known)}, or leave it out to have keys gathered")


def no_ring(source: str, why: str) -> PlanError:
    where = f" (at {source})" if source else ""
    reason = (
        f"the attention{where} cannot: {why}"
        if why
        else ("it has none (haliax.nn.attention.attend, or a layer that calls it); write it by that, or leave this out")
    )
    return PlanError(f"attention: ring: no attention of the step can have its keys go round; {reason}")


def ring_without_queries(keys: str) -> str:
    return f"which axis of its queries goes with {keys!r} is not told; pass QPos to `attend`"


def ring_of_sizes(keys: str, size: int, queries: str, own: int) -> str:
    return f"its keys are {keys}={size}, its queries {queries}={own}; only a self-attention has shards of both alike"


def ring_of_pairs() -> str:
    return "its mask is an array of pairs of queries and keys; say it by an AttentionMask (causal, window, segments)"


def ring_forward() -> str:
    return "it is differentiated in forward mode, which makes all scores"


def ring_of_backend(backend: str) -> str:
    return f"it asks for the backend {backend}; leave that to `auto`, or `blockwise`"


def ring_beside(keys: str, queries: str, type_: str) -> str:
    return f"an array of the step has both {queries!r} and {keys!r}, {type_}: no mesh axis shards two dims of one array"


def ring_of_two(keys: str, queries: str, other: str) -> str:
    return f"{keys!r} are keys of queries along {queries!r} and along {other!r}; give each attention keys of its own"


def ring_of_elastic() -> str:
    return "an elastic step has the same bits on any number of devices, which a sum in turns has not"
