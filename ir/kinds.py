"""The op kinds: for each, in one place, what its axes must satisfy and how it behaves when a name it has is sharded.

The checker, the planner, the partitioner and the cost model all derive from this table. A kind is defined by names,
never by dimension numbers:

- `mismatches(node)`: pairs of names that meet and should be one;
- `reduced(node)`: names over which the result is a sum (or max, …) of shards: sharded, they leave it partial;
- `blocked(node)`: names that must be whole on every device;
- `flops(node)`: floating-point operations of the whole op;
- `fusible`: whether XLA computes it in place, without a round trip to memory;
- `structured`: whether its bodies are fed by its operands and give its results, dim by dim;
- `sealed`: whether its bodies are the user's word, which passes read and leave as it is.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod

from ir.graph import Graph, Node, Operand, Value
from ir.types import Dim

REDUCIBLE = ("sum", "max", "min", "prod", "and", "or", "xor")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Two names that meet in a node. `operands` are the positions of what carries them (of a branch: which result,
    which body); `size` is that of both dims, None where they differ."""

    first: str
    second: str
    size: int | None
    rule: str
    operands: tuple[int, int]


Names = tuple[str, ...]


def _no_names(node: Node) -> Names:
    return ()


def _no_mismatch(node: Node) -> Iterator[Mismatch]:
    return iter(())


def _no_flops(node: Node) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table; see the module's text for the meaning of the columns."""

    name: str
    mismatches: Callable[[Node], Iterator[Mismatch]] = _no_mismatch
    reduced: Callable[[Node], Names] = _no_names
    blocked: Callable[[Node], Names] = _no_names
    flops: Callable[[Node], int] = _no_flops
    fusible: bool = False
    structured: bool = False
    sealed: bool = False
    communicates: bool = False


def _dims(operand: Operand) -> tuple[Dim, ...]:
    return operand.type.dims


def _pair(first: Dim, second: Dim, rule: str, operands: tuple[int, int]) -> Iterator[Mismatch]:
    if first.name and second.name and first.name != second.name and first.size == second.size:
        yield Mismatch(first.name, second.name, first.size, rule, operands)


def _elementwise(node: Node) -> Iterator[Mismatch]:
    if len(node.outputs) != 1:  # side by side, each result by itself
        return
    out = node.outputs[0].type
    for position in range(len(out.dims)):
        column = [
            (i, operand.type.dims[position])
            for i, operand in enumerate(node.inputs)
            if len(operand.type.dims) == len(out.dims) and operand.type.dims[position].size == out.dims[position].size
        ]
        for i, dim in column[1:]:
            yield from _pair(column[0][1], dim, "elementwise", (column[0][0], i))
    if node.fn == "named":
        for a, b in zip(_dims(node.inputs[0]), out.dims, strict=True):
            yield from _pair(a, b, "named", (0, -1))


def _contraction(node: Node) -> Iterator[Mismatch]:
    for key, other in (("over", "with"), ("batch", "batch_with")):
        for a, b in zip(node.dims(key), node.dims(other), strict=False):
            yield from _pair(a, b, "contract", (0, 1))
    yield from _duplicates(node)


def _indexed(node: Node) -> Iterator[Mismatch]:
    """Of a gather and a scatter, what the rule found apart: dims of the operand or the indices, dims of the indices or
    the updates."""
    last = len(node.inputs) - 1
    for a, b in zip(node.dims("batch"), node.dims("batch_with"), strict=False):
        first = 0 if a in _dims(node.inputs[0]) else 1
        second = last if b in _dims(node.inputs[last]) else 1
        yield from _pair(a, b, node.kind, (first, second))


def _side_by_side(node: Node) -> Iterator[Mismatch]:
    """Of values that are sorted together, or a slice and what replaces it: dim by dim."""
    if (node.kind, node.fn) in (("sort", "sort"), ("slice", "update")):
        rank = len(_dims(node.inputs[0]))
        for i, operand in enumerate(node.inputs[1:], start=1):
            for a, b in zip(_dims(node.inputs[0]), _dims(operand), strict=False):
                if len(_dims(operand)) == rank:
                    yield from _pair(a, b, node.kind, (0, i))


def _duplicates(node: Node) -> Iterator[Mismatch]:
    seen: dict[str, Dim] = {}
    for dim in node.outputs[0].type.dims:
        if dim.name and dim.name in seen and not any(_has_twice(operand, dim.name) for operand in node.inputs):
            yield Mismatch(dim.name, dim.name, dim.size, "twice", (0, 1))
        if dim.name:
            seen[dim.name] = dim


def _has_twice(operand: Operand, name: str) -> bool:
    return sum(dim.name == name for dim in operand.type.dims) > 1


def _aligned(node: Node) -> Iterator[Mismatch]:
    for i, operand in enumerate(node.inputs[1:], start=1):
        for a, b in zip(_dims(node.inputs[0]), _dims(operand), strict=False):
            if a.name and b.name and a.name != b.name:
                yield Mismatch(a.name, b.name, a.size if a.size == b.size else None, node.kind, (0, i))


def _loop(node: Node) -> Iterator[Mismatch]:
    body = node.bodies[-1]
    constants, carries = node.count("constants", 0), node.count("carries", 0)
    before = body.inputs[constants : constants + carries]
    for i, (value, result) in enumerate(zip(before, body.outputs, strict=False)):
        for a, b in zip(_dims(value), _dims(result), strict=False):
            yield from _pair(a, b, "carry", (i + constants, i))


def _branches(node: Node) -> Iterator[Mismatch]:
    first = node.bodies[0].outputs
    for i, body in enumerate(node.bodies[1:], start=1):
        for result, (a, b) in enumerate(zip(first, body.outputs, strict=True)):
            for x, y in zip(_dims(a), _dims(b), strict=False):
                yield from _pair(x, y, "branch", (result, i))


def _along(node: Node) -> Names:
    return node.names("along")


def _whole(node: Node) -> Names:
    return node.names("whole")


def _names_of(values: tuple[Value, ...]) -> set[str]:
    return {name for value in values for name in value.type.names}


def _contract_reduced(node: Node) -> Names:
    return tuple(name for name in node.names("over") if name not in _contract_blocked(node))


def _contract_blocked(node: Node) -> Names:
    """A plain contraction asks for nothing; windows and groups must be whole."""
    if not node.fn:
        return ()
    return _unique((*node.names("along"), *node.names("window"), *_made(node)))


def _contract_flops(node: Node) -> int:
    multiplied = (*node.dims("over"), *node.dims("window"))
    return 2 * node.outputs[0].type.elements * prod(dim.size for dim in multiplied)


def _unique(names: Iterable[str]) -> Names:
    return tuple(dict.fromkeys(names))


def _made(node: Node) -> Names:
    """Names that only the results have."""
    return tuple(sorted(_names_of(node.outputs) - _names_of(node.value_inputs)))


def _linalg_blocked(node: Node) -> Names:
    # XLA computes a Fourier transform whole on every device, whatever it is batched over.
    return _all_names(node) if node.fn == "fft" else _unique((*_along(node), *_made(node)))


def _reduce_reduced(node: Node) -> Names:
    return node.names("over") if node.fn in REDUCIBLE else ()


def _reduce_blocked(node: Node) -> Names:
    return () if node.fn in REDUCIBLE else node.names("over")


def _gather_reduced(node: Node) -> Names:
    # Each device looks up what it has and adds zero for the rest: a sum over the shards of the indexed names.
    return tuple(name for name in _along(node) if name not in _whole(node))


def _scatter_reduced(node: Node) -> Names:
    if node.fn != "add":
        return ()
    kept = _names_of(node.outputs)
    return tuple(sorted(_names_of(node.value_inputs[1:]) - kept))


def _scatter_blocked(node: Node) -> Names:
    if node.fn == "add":
        return _whole(node)
    return (*_whole(node), *sorted(_names_of(node.value_inputs[1:]) - _names_of(node.outputs)), *_along(node))


def _reshape_blocked(node: Node) -> Names:
    outgoing = _names_of(node.outputs)
    incoming = _names_of(node.value_inputs)
    return tuple(dict.fromkeys((*_along(node), *sorted(incoming ^ outgoing))))


def _all_names(node: Node) -> Names:
    return tuple(sorted(_names_of(node.value_inputs) | _names_of(node.outputs)))


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("map", mismatches=_elementwise, fusible=True),
        Kind(
            "contract",
            mismatches=_contraction,
            reduced=_contract_reduced,
            blocked=_contract_blocked,
            flops=_contract_flops,
        ),
        Kind("reduce", reduced=_reduce_reduced, blocked=_reduce_blocked),
        Kind("broadcast", fusible=True),
        Kind("rename", fusible=True),
        Kind("reshape", blocked=_reshape_blocked, fusible=True),
        Kind("slice", mismatches=_side_by_side, blocked=_along, fusible=True),
        Kind("pad", blocked=_along, fusible=True),
        Kind("concat", mismatches=_aligned, blocked=_along),
        Kind("gather", mismatches=_indexed, reduced=_gather_reduced, blocked=_whole),
        Kind("scatter", mismatches=_indexed, reduced=_scatter_reduced, blocked=_scatter_blocked),
        Kind("iota", fusible=True),
        Kind("constant"),
        Kind("cumulate", blocked=_along),
        Kind("sort", mismatches=_side_by_side, blocked=_along),
        Kind("linalg", blocked=_linalg_blocked),
        Kind("random"),
        Kind("loop", mismatches=_loop, structured=True),
        Kind("branch", mismatches=_branches, structured=True),
        Kind("call", structured=True),
        Kind("manual", blocked=_all_names, sealed=True),
        Kind("collective", blocked=_all_names),
        Kind("opaque", blocked=_all_names),
        Kind("reshard", fusible=True),
        Kind("all_gather", communicates=True),
        Kind("reduce_scatter", communicates=True),
        Kind("all_reduce", communicates=True),
        Kind("all_to_all", communicates=True),
        Kind("permute", communicates=True),
    )
}


def kind_of(node: Node) -> Kind:
    """The row of a node's kind. Raises KeyError for a kind that is not in the table (see `ir.verify`)."""
    return KINDS[node.kind]


def entered(node: Node) -> tuple[Graph, ...]:
    """The bodies that passes go into: all but those of a sealed node."""
    return () if KINDS[node.kind].sealed else node.bodies


def body_operands(node: Node) -> list[tuple[Graph, list[tuple[Operand, Value, bool]]]]:
    """For each body of a structured node, how its inputs are fed: (operand outside, input inside, scanned over)."""
    if node.kind == "loop" and node.fn == "while":
        split = node.count("condition_constants")
        end = split + node.count("constants")
        feeds = [[*node.inputs[:split], *node.inputs[end:]], list(node.inputs[split:])]
    elif node.kind == "branch":
        feeds = [list(node.inputs[1:])] * len(node.bodies)
    else:
        feeds = [list(node.inputs)]
    whole = node.count("constants", 0) + node.count("carries", 0)
    scanned = node.kind == "loop" and node.fn == "scan"
    return [
        (body, [(o, v, scanned and i >= whole) for i, (o, v) in enumerate(zip(feed, body.inputs, strict=True))])
        for body, feed in zip(node.bodies, feeds, strict=True)
    ]


def body_results(node: Node) -> list[tuple[Graph, list[tuple[Operand, Value, bool]]]]:
    """For each body whose results leave a structured node: (operand inside, result outside, stacked)."""
    carries = node.count("carries", 0)
    bodies = node.bodies[1:] if node.fn == "while" else node.bodies
    scanned = node.kind == "loop" and node.fn == "scan"
    return [
        (
            body,
            [(o, v, scanned and i >= carries) for i, (o, v) in enumerate(zip(body.outputs, node.outputs, strict=True))],
        )
        for body in bodies
    ]
