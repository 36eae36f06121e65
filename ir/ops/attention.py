"""attention: softmax of scores along the positions of the keys, and the mean of the values by it, as one operation: no
array of all scores, neither in a graph nor in the memory of a plan.

The operands are query, key, value, then the parts of the mask that are arrays (`masks`). `attention.backward` and
`attention.tangent` have both results of the forward operation behind these, and then the cotangent of the first, or the
tangents of query, key and value.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from haliax.nn.attention import ring
from haliax.nn.attention.backends import FEW_PAIRS
from haliax.nn.attention.blockwise import BLOCK
from haliax.nn.attention.spec import MASKS, Spec
from ir import errors
from ir._compat import equation_context
from ir.graph import Graph, Node, Value
from ir.jax_api import jnp
from ir.ops import attention_kernel, rounds
from ir.ops.op import Mismatch, Names, Op, Passing, Place, meeting, params_of
from ir.ops.padding import Filling
from ir.ops.rule import Expected, Piece, has, like, listed, must, operands, same, without
from ir.ops.spread import Labels, Spread, Walked, pending
from ir.ring_attention import attention, attention_in_rounds, backward, backward_in_rounds, tangent
from ir.shards import Shards, bind_primitive
from ir.types import Dim, TensorType

Dims = tuple[Dim, ...]
_BEHIND = {"": 0, "backward": 3, "tangent": 5}
"""By member, how many operands follow those of the attention itself."""
_LOG_SUMS = ("float32", "float64")


class Attention(Op):
    """What query and key share is matched, what only the query has is free. The vectors of query and key (`over`) and
    the positions of the keys (`along`) are whole on each device; all else may be sharded."""

    kind = "attention"
    attributes = frozenset(
        ("over", "along", "position", "masks", "causal", "window", "prefix", "starts", "scale", "softcap", "backend")
        + ("batch", "batch_with", "ring")
    )
    meetings = {"attention": "attention of {pairs}: what query, key, value and mask share has one name"}
    always_computes = True
    goes_round = True
    pads = True

    def results(self, node: Node) -> Sequence[Expected]:
        must(node.fn in _BEHIND, Piece("op"), errors.rule_needs("attention, or a derivative of it"))
        given = 3 + len(node.words("masks"))
        operands(node, given + _BEHIND[node.fn], given + _BEHIND[node.fn])
        must(set(node.words("masks")) <= set(MASKS), Piece("attribute", key="masks"), errors.rule_needs("known masks"))
        query, key, value = (operand.type for operand in node.inputs[:3])
        _fits(node, "over", query, "the query")
        _fits(node, "over", key, "the key")
        _fits(node, "along", key, "the key")
        _fits(node, "along", value, "the value")
        if "ring" in node.attrs:
            listed(node, "ring", query.dims, "the query")
        if node.fn == "backward":
            return [like(query), like(key), like(value)]
        rows = _rows(node)
        out = node.outputs[0].type.dims if node.outputs else ()
        result = _in_order((*rows, *_features(node)), out)
        if node.fn == "tangent":
            return [Expected((node.inputs[given].type.dtype,), result)]
        logs = node.outputs[1].type.dims if len(node.outputs) > 1 else ()
        dtypes = tuple(dict.fromkeys((query.dtype, value.dtype, "float32")))
        return [Expected(dtypes, result), Expected(_LOG_SUMS, _in_order(rows, logs))]

    def spread(self, node: Node) -> Sequence[Spread]:
        """Row by row of scores. Gradients of keys and values are sums over the rows, so they are partial over what
        shards the rows alone; they are linear in the cotangent."""
        taken, made = _labels(node)
        first = node.inputs[0].type.dims
        blocked = set(self.blocked(node))
        rounds.check(node, self.ring_axes(node), self.travels(node))
        whole = {label for dim, label in zip(first, taken[0], strict=True) if dim.name in blocked}
        for operand, labels in zip(node.inputs, taken, strict=True):
            whole |= {label for dim, label in zip(operand.type.dims, labels, strict=True) if dim.name in blocked}
        own = {label for labels in (taken[1], taken[2]) for label in labels}
        rows = {label for label in taken[0] if label is not None and label not in own}
        walked = Walked(node, taken, {label for label in whole if label is not None})
        behind = len(node.inputs) - 1
        due = pending(node, ((behind,),) if node.fn == "backward" else ())
        return [walked.result(labels, due, rows if node.fn == "backward" else ()) for labels in made]

    def mismatches(self, node: Node) -> Iterator[Mismatch]:
        for a, b in zip(node.dims("batch"), node.dims("batch_with"), strict=False):
            yield from meeting(a, b, "attention", _carriers(node, a, b))

    def reduced(self, node: Node) -> Names:
        return tuple(dict.fromkeys(name for value in node.outputs for name in self.reduced_in(node, value)))

    def reduced_in(self, node: Node, result: Value) -> Names:
        """The gradients of keys and values are sums over what only the queries have."""
        if node.fn != "backward":
            return ()
        own, blocked = set(result.type.names), self.blocked(node)
        rows = (dim.name for dim in _rows(node) if dim.name is not None)
        return tuple(name for name in rows if name not in own and name not in blocked)

    def blocked(self, node: Node) -> Names:
        """Backward, scores need whole vectors of the values too."""
        features = _names(_features(node)) if node.fn else ()
        along = () if "ring" in node.attrs else node.names("along")
        return tuple(dict.fromkeys((*node.names("over"), *along, *features)))

    def padding(self, node: Node, names: Collection[str]) -> Sequence[Filling] | None:
        """A key that is padding would be seen."""
        return None if {*node.names("along")} & {*names} else super().padding(node, names)

    def held(self, node: Node) -> Sequence[Dims]:
        """Scores, their softmax and what they are scaled by, which a library of products takes as an array; for the
        gradient the softmax, its cotangent and that of the scores. Of many pairs, those of a block of keys, and so in
        each turn of a ring."""
        rows, keys = _rows(node), node.dims("along")
        queries = max((dim.size for dim in rows if dim.name not in _names(node.inputs[1].type.dims)), default=1)
        if len(keys) == 1 and ("ring" in node.attrs or queries * keys[0].size > FEW_PAIRS):
            keys = (replace(keys[0], size=min(keys[0].size, BLOCK)),)
        return [(*rows, *keys)] * (3 if node.fn == "backward" or "scale" in node.attrs else 2)

    def by_kernel(self, node: Node, kernel: str) -> Names | None:
        return attention_kernel.replicated(node, _spec(node), kernel)

    def by_rows(self, node: Node) -> Sequence[Value]:
        """Query, key and value, and backward the cotangent. Results are copied for their readers."""
        taken = node.inputs[:3] if not node.fn else (*node.inputs[:3], node.inputs[-1])
        return [value for value in taken if isinstance(value, Value)]

    def kernel_flops(self, node: Node, kernel: str) -> int:
        return attention_kernel.flops(node, _spec(node), kernel)

    def kernels(self, node: Node, kernel: str) -> int:
        return attention_kernel.kernels(node, kernel)

    def spilled(self, node: Node) -> int:
        return attention_kernel.spilled(node, _spec(node))

    def bound(self, node: Node, params: Mapping[str, Any], shards: Mapping[str, int]) -> Mapping[str, Any]:
        """The gradient is told what a mesh shards that gradients of keys and values are sums over."""
        spec = params["spec"]
        if node.fn != "backward":
            return params
        summed = set(self.reduced(node))
        parts: list[tuple[int, int, int]] = []
        unused = 1 + max(label for labels in (*spec.operands, spec.result) for label in labels)
        for label, dim in zip(spec.operands[0], node.inputs[0].type.dims, strict=True):
            count = prod(shards[axis] for axis in dim.mesh)
            if dim.name in summed and count > 1:
                parts.append((label, unused + len(parts), count))
        return {**params, "spec": replace(spec, parts=tuple(parts))}

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Queries whose positions are sharded begin where those of the devices before this one end."""
        assert node.origin is not None
        spec, every = _begun(node, arrays, shards)
        return bind_primitive(node, every, {**node.origin.params, "spec": spec})

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """By the form that defines it."""
        member = {"": attention, "backward": backward, "tangent": tangent}[node.fn]
        spec, every = _begun(node, arrays, shards)
        return member(spec, *every)

    # --- a ring: keys that are sharded as the queries are ------------------------------------------------------------

    def ring_axes(self, node: Node) -> tuple[str, ...]:
        """The mesh axes along which the keys go round: those of the queries' positions."""
        dims = node.inputs[0].type.dims
        return next((dim.mesh for dim in dims for listed in node.dims("ring") if dim.name == listed.name), ())

    def travels(self, node: Node) -> Sequence[Sequence[Value]]:
        """What has the positions of keys; and behind these, backward, the gradients of key and value."""
        segments = [3 + i for i, mask in enumerate(node.words("masks")) if mask == "key_segments"]
        keys = [each for i in (1, 2, *segments) if isinstance(each := node.inputs[i], Value)]
        return [keys, list(node.outputs[1:])] if node.fn == "backward" else [keys]

    def rounds(self, node: Node, sizes: Mapping[str, int]) -> Sequence[tuple[Graph, int]]:
        """Each device has its own keys first, and those of every other one after that; gradients come back to it."""
        devices = prod(sizes[axis] for axis in self.ring_axes(node))
        return list(zip(node.bodies, (devices - 1, devices), strict=False))

    def in_rounds(
        self,
        node: Node,
        sizes: Mapping[str, int],
        fresh: Callable[[Value], Value],
        both_ways: Callable[[Sequence[str]], bool],
    ) -> Node:
        axes = self.ring_axes(node)
        return rounds.added(node, axes, self.travels(node), sizes, fresh, both_ways(axes)) if axes else node

    def bind_in_rounds(
        self, node: Node, arrays: Sequence[Any], shards: Shards, passing: Sequence[Passing]
    ) -> Sequence[Any]:
        assert node.origin is not None
        spec, every = _begun(node, arrays, shards)
        member = {"": ring.attention, "backward": ring.backward}[node.fn]
        with equation_context(node.origin.context, node.origin.source_info):
            return member(spec, every, self._ring(node, shards, passing))

    def shadow_in_rounds(
        self, node: Node, arrays: Sequence[Any], shards: Shards, passing: Sequence[Passing]
    ) -> Sequence[Any]:
        spec, every = _begun(node, arrays, shards)
        member = {"": attention_in_rounds, "backward": backward_in_rounds}[node.fn]
        return member(spec, every, self._ring(node, shards, passing))

    def _ring(self, node: Node, shards: Shards, passing: Sequence[Passing]) -> ring.Ring:
        axes = self.ring_axes(node)
        return ring.Ring(shards.count(axes), shards.index(axes), *passing, both=rounds.go_both_ways(node))

    def flops(self, node: Node) -> int:
        """Two products of all queries with all keys forward; five backward, where scores are made again; masks are not
        counted on."""
        pairs = prod(dim.size for dim in (*_rows(node), *node.dims("along")))
        size, features = (prod(dim.size for dim in dims) for dims in (node.dims("over"), _features(node)))
        times = {"": (1, 1), "backward": (3, 2), "tangent": (3, 2)}[node.fn]
        return 2 * pairs * (times[0] * size + times[1] * features)

    def flops_again(self, node: Node) -> int:
        """The scores, in the backward pass."""
        if node.fn != "backward":
            return 0
        return 2 * prod(dim.size for dim in (*_rows(node), *node.dims("along"), *node.dims("over")))

    def links(self, node: Node) -> Iterator[tuple[Place, Place]]:
        """Equal labels. Without its primitive, names alone must do."""
        spec = params_of(node).get("spec")
        if not isinstance(spec, Spec):
            return
        first: dict[int, Place] = {}
        labels = (*spec.operands_of(node.fn), *spec.results_of(node.fn))
        for value, own in zip((*node.inputs, *node.outputs), labels, strict=True):
            for position, label in enumerate(own):
                if label in first:
                    yield first[label], (value, position)
                else:
                    first[label] = value, position


def _begun(node: Node, arrays: Sequence[Any], shards: Shards) -> tuple[Spec, Sequence[Any]]:
    """The attention on one device's shards, and its operands: one more says where the device's queries begin."""
    spec: Spec = params_of(node)["spec"]
    labels = spec.operands[0]
    sharded = spec.position in labels and node.inputs[0].type.dims[labels.index(spec.position)]
    if not sharded or not sharded.mesh:
        return spec, arrays
    known = spec.named(arrays[3 : 3 + len(spec.masks)])
    given, labels = known.get("starts", (spec.starts, ()))
    known["starts"] = (jnp.asarray(given, jnp.int32) + shards.start(sharded), labels)
    masks = tuple([name for name in MASKS if name in known])
    operands = (*spec.operands[:3], *[known[name][1] for name in masks])
    begun = replace(spec, starts=0, masks=masks, operands=operands)
    return begun, [*arrays[:3], *[known[name][0] for name in masks], *arrays[3 + len(spec.masks) :]]


def _spec(node: Node) -> Spec:
    """What is computed; of a node that was read from text, as its names and attributes have it."""
    known = params_of(node).get("spec")
    if isinstance(known, Spec):
        return known
    taken, made = _labels(node)
    unnamed = iter(range(-1, -1 - sum(len(each) for each in taken + made), -1))
    rows = [tuple([next(unnamed) if label is None else label for label in each]) for each in (*taken, *made)]
    masks = node.words("masks")

    def label(key: str, operand: int) -> int:
        dims, wanted = node.inputs[operand].type.dims, node.dims(key)
        return next(
            own for own, dim in zip(rows[operand], dims, strict=True) if any(same(dim, each) for each in wanted)
        )

    return Spec(
        tuple(rows[: 3 + len(masks)]),
        masks,
        rows[0] if node.fn else rows[len(taken)],
        label("over", 0),
        label("along", 1),
        label("position", 0) if node.dims("position") else None,
        causal=bool(node.attrs.get("causal", False)),
        window=node.count("window", 0),
        prefix=node.count("prefix", 0),
        starts=node.count("starts", 0),
        scale=_number(node, "scale"),
        softcap=_number(node, "softcap"),
        backend=str(node.attrs.get("backend", "auto")),
    )


def _number(node: Node, key: str) -> float | None:
    value = node.attrs.get(key)
    return float(value) if isinstance(value, (int, float)) else None


def _in_place(labels: tuple[int, ...], old: int, new: int) -> Labels:
    """Labels with one in the place of another."""
    return [new if label == old else label for label in labels]


def _label_of_keys(node: Node, spec: Spec) -> int:
    """The label of the positions of the keys: in a ring that of the queries' positions, which are sharded like them."""
    dims = zip(spec.operands[0], node.inputs[0].type.dims, strict=True)
    return next((label for label, dim in dims if any(same(dim, each) for each in node.dims("ring"))), spec.keys)


def _names(dims: Sequence[Dim]) -> Names:
    """The names of dims that have one."""
    return tuple(dim.name for dim in dims if dim.name is not None)


def _fits(node: Node, key: str, type_: TensorType, who: str) -> None:
    """Whether an operand has the listed dims; one that has another name for it is listed under `batch_with`."""
    other = dict(zip(node.dims("batch"), node.dims("batch_with"), strict=False))
    wanted = node.dims(key)
    must(len(wanted) == 1, Piece("attribute", key=key), errors.rule_needs("one dim"))
    known = [dim for dim in (wanted[0], other.get(wanted[0])) if dim is not None]
    if not any(has(type_.dims, dim) for dim in known):
        listed(node, key, type_.dims, who)


def _rows(node: Node) -> Dims:
    """What there is a row of scores for: the dims of the query but its vectors."""
    return without(node.inputs[0].type.dims, node.dims("over"))[0]


def _features(node: Node) -> Dims:
    """The dims of the values' own vectors."""
    left = list(node.inputs[2].type.dims)
    for dim in (*node.dims("along"), *_rows(node), *node.dims("batch_with")):
        place = next((i for i, each in enumerate(left) if same(each, dim)), None)
        if place is not None:
            del left[place]
    return tuple(left)


def _in_order(dims: Dims, found: Dims) -> Dims:
    """The dims as they are found, where those are the same in another order."""
    left = list(dims)
    for dim in found:
        place = next((i for i, each in enumerate(left) if same(each, dim)), None)
        if place is None:
            return dims
        del left[place]
    return dims if left else found


def _carriers(node: Node, first: Dim, second: Dim) -> tuple[int, int]:
    """The operands that carry the two names of a meeting."""
    places = [i for i, operand in enumerate(node.inputs) if has(operand.type.dims, first)]
    others = [i for i, operand in enumerate(node.inputs) if has(operand.type.dims, second)]
    return (places or [0])[0], (others or [1])[0]


def _labels(node: Node) -> tuple[list[Labels], list[Labels]]:
    """The labels of operands and of results; those of a node that was read from text are its names."""
    spec = params_of(node).get("spec")
    if isinstance(spec, Spec):
        of_keys = _label_of_keys(node, spec)
        own = (spec.operands_of(node.fn), spec.results_of(node.fn))
        taken, made = ([_in_place(labels, spec.keys, of_keys) for labels in each] for each in own)
        return taken, made
    numbers: dict[str, int] = {}
    partner = {b.name: a.name for a, b in zip(node.dims("batch"), node.dims("batch_with"), strict=False)}
    rows: list[Labels] = []
    for value in (*node.inputs, *node.outputs):
        names = [partner.get(dim.name, dim.name) for dim in value.type.dims]
        rows.append([numbers.setdefault(name, len(numbers)) if name is not None else None for name in names])
    return rows[: len(node.inputs)], rows[len(node.inputs) :]
