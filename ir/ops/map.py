"""map: any elementwise function. Operands have the dims of the result, or are scalars."""

from collections.abc import Iterator, Sequence
from typing import Any

from ir import errors
from ir.graph import Node, Operand
from ir.ops.dtypes import complex_of, family, is_complex, is_float, is_integer, real_of
from ir.ops.op import Mismatch, Op, meeting
from ir.ops.rule import Broken, Expected, Hole, Piece, Slot, like, must, operands, same_dtype
from ir.ops.spread import ANY, Groups, Spread, Walked, by_position, joined, layout_of, nothing_pending, pending
from ir.ring import touches
from ir.ring_functions import elementwise, known
from ir.shards import Shards
from ir.types import SUM, TensorType, item_size

_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "eq_to", "le_to", "lt_to"))
_TO_REAL = frozenset(("real", "imag", "abs"))
_TO_COMPLEX = frozenset(("complex", "conj"))
_CASTS = frozenset(("convert_element_type", "bitcast_convert_type"))
_PINS = ("sharding_constraint", "reshard", "layout_constraint", "pvary", "preduced")
_POWERS = ("pow", "integer_pow")
_BINARY = frozenset(
    (
        *("add", "add_any", "and", "atan2", "complex", "div", "eq", "eq_to", "ge", "gt", "igamma", "igamma_grad_a"),
        *("igammac", "le", "le_to", "lt", "lt_to", "max", "min", "mul", "mulhi", "ne", "nextafter", "or", "polygamma"),
        *("pow", "rem", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sub", "xor", "zeta"),
    )
)
_TERNARY = frozenset(("clamp", "regularized_incomplete_beta", "select_if_vmap"))
_LINEAR: dict[str, Groups] = {
    **dict.fromkeys(("add", "add_any", "sub", "complex"), ((0, 1),)),
    **dict.fromkeys(("neg", "real", "imag", "conj"), ((0,),)),
    "mul": ((0,), (1,)),
}
"""By function, the groups of operands that it is linear in: of a partial operand it makes a partial result."""
_CARRYING = frozenset(
    (
        *("copy", "device_put", "layout_constraint", "name", "named", "nontraceable", "optimization_barrier", "pvary"),
        *("reduce_precision", "sharding_constraint", "stop_gradient", "with_memory_space_constraint"),
    )
)
"""Functions whose result is their operand."""
_LONG = frozenset(
    (
        *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "digamma", "div", "erf"),
        *("erf_inv", "erfc", "exp", "exp2", "expm1", "lgamma", "log", "log1p", "logistic", "pow", "rem", "rsqrt"),
        *("sin", "sinh", "sqrt", "tan", "tanh"),
    )
)
"""Functions that XLA computes once for several readers (its `InstructionFusion::IsExpensive`)."""
_PARTS = {"erfc": 3}
"""Of functions that XLA writes as several: `erfc` chooses between two quotients and one minus the other, of which both
and `exp(-x²)` take long, and the choice is made by each reader."""
_EXTREMES = frozenset(("max", "min", "and", "or"))
"""Functions that are a reduction too: the max of partial maxima is a partial maximum."""


class Map(Op):
    """Result and operands agree dim by dim; of two names at one place the result takes the first."""

    kind = "map"
    meetings = {
        "elementwise": "{op} of {pairs}: dims at the same place must be the same axis",
        "named": "a value whose {axes} {first} is named {second}",
    }
    fusible = True
    is_elementwise = True
    keeps_places = True
    repeats_places = True
    pads = True

    def results(self, node: Node) -> Sequence[Expected]:
        if len(node.outputs) > 1:  # side by side, each result by itself
            return [like(operand.type) for operand in operands(node, len(node.outputs), len(node.outputs))]
        most = 2 if node.fn in _BINARY else 3 if node.fn in _TERNARY else None
        operands(node, most or 1, most)
        dims = self._cast_dims(node) if node.fn == "bitcast_convert_type" else _dims(node)
        if node.fn == "named":
            dims = tuple([Hole(dim.size) for dim in dims])
        return [Expected(_dtypes(node), dims)]

    def spread(self, node: Node) -> Sequence[Spread]:
        """Place by place. A linear function of a partial operand is partial."""
        shapes = [value.type.shape for value in node.outputs]
        if len(shapes) > 1:  # side by side, each result is its operand
            if node.fn not in _CARRYING:
                nothing_pending(node)
            return [layout_of(operand.type) for operand in node.inputs]
        rank, made = max((len(operand.type.dims) for operand in node.inputs), default=0), len(shapes[0])
        labels = by_position(node, rank)
        if node.fn == "bitcast_convert_type" and made < rank:
            labels = [[*range(rank - 1), None]]  # the last dim becomes the bits of one number
        kept = [place if place < rank else None for place in range(made)]
        return [Walked(node, labels).result(kept, _stays_partial(node))]

    def mismatches(self, node: Node) -> Iterator[Mismatch]:
        if len(node.outputs) != 1:
            return
        out = node.outputs[0].type
        for position in range(len(out.dims)):
            column = [
                (i, operand.type.dims[position])
                for i, operand in enumerate(node.inputs)
                if len(operand.type.dims) == len(out.dims)
                and operand.type.dims[position].size == out.dims[position].size
            ]
            for i, dim in column[1:]:
                yield from meeting(column[0][1], dim, "elementwise", (column[0][0], i))
        if self.relabels(node):
            for a, b in zip(node.inputs[0].type.dims, out.dims, strict=True):
                yield from meeting(a, b, "named", (0, -1))

    def ends(self, node: Node, mismatch: Mismatch) -> tuple[Operand, Operand]:
        return (node.inputs[0], node.outputs[0]) if self.relabels(node) else super().ends(node, mismatch)

    def relabels(self, node: Node) -> bool:
        return node.fn == "named"

    def keeps_elements(self, node: Node) -> bool:
        return True

    def is_operand(self, node: Node) -> bool:
        return len(node.outputs) == 1 and (node.fn in _CARRYING or node.fn == "named") and node.fn != "reduce_precision"

    def long_parts(self, node: Node) -> int:
        return _PARTS.get(node.fn, 1) if node.fn in _LONG else 0

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """Where a user's program pins an array, the plan is what counts."""
        if node.fn in _PINS or self.relabels(node):
            return arrays
        return super().bind(node, arrays, shards)

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        if not touches(node):
            return self.bind(node, arrays, shards)
        made = elementwise(node, arrays)
        return super().shadow(node, arrays, shards) if made is None else made

    def places(self, node: Node) -> bool:
        return node.fn in ("sharding_constraint", "reshard", "device_put", "mesh_cast", "layout_constraint")

    def covered(self, node: Node) -> bool:
        return known(node.fn) or not touches(node)

    def _cast_dims(self, node: Node) -> tuple[Slot, ...]:
        """The same bits as another type: a wider or narrower one takes or gives a last dim."""
        dims, rank = node.inputs[0].type.dims, len(node.outputs[0].type.dims)
        must(abs(rank - len(dims)) <= 1, Piece("result"), errors.rule_needs("the operand's dims, or one more or less"))
        return (*dims, Hole()) if rank > len(dims) else dims[:rank]


def _stays_partial(node: Node) -> Spread:
    fn, dtypes = node.fn, [operand.type.dtype for operand in node.inputs]
    if fn in _CARRYING:
        return pending(node, ((0,),), ANY)
    if fn in _EXTREMES and not any(operand.type.partial and _by_sum(operand) for operand in node.inputs):
        return joined(node, fn)
    if fn == "convert_element_type":
        return pending(node, ((0,),), _kept_by_cast(dtypes[0], node.outputs[0].type.dtype))
    if fn == "select_n":
        return pending(node, (range(1, len(node.inputs)),), ANY)
    if fn == "div" and (is_float(dtypes[0]) or is_complex(dtypes[0])):
        return pending(node, ((0,),))
    return pending(node, _LINEAR.get(fn, ()))


def _kept_by_cast(old: str, new: str) -> tuple[str, ...]:
    """The reductions that a conversion may come before as well as after. Integers that wrap around when they are added
    do so in their own width, and in a narrower one their order is lost."""
    if 2 <= family(old) <= family(new):
        return (SUM, "max", "min")
    if is_integer(old) and is_integer(new):
        return (SUM,) if item_size(new) <= item_size(old) else ()
    return (SUM, "max", "min") if is_integer(old) and item_size(old) > 2 and family(new) > 1 else ()


def _by_sum(operand: Operand) -> bool:
    return operand.type.reduction == SUM


def _dims(node: Node) -> tuple[Slot, ...]:
    """The dims of the operands of full rank; of several names at a place the first, of sizes the one that is not 1."""
    inputs = node.inputs
    first: TensorType | None = None
    simple = True
    for operand in inputs:
        type_ = operand.type
        if type_.dims:
            if first is None:
                first = type_
            elif type_.dims != first.dims:
                simple = False
    if first is None:
        return ()
    return first.dims if simple else _joined(node, max(len(operand.type.dims) for operand in inputs))


def _joined(node: Node, rank: int) -> tuple[Slot, ...]:
    out: list[Slot] = []
    full = [(i, operand.type.dims) for i, operand in enumerate(node.inputs) if operand.type.dims]
    for i, dims in full:
        if len(dims) != rank:
            raise Broken(Piece("operand", i), errors.operand_rank(str(node.inputs[i].type), f"a scalar or {rank} dims"))
    for position in range(rank):
        sizes = {dims[position].size for _, dims in full}
        size = max(sizes - {1}, default=1)
        for i, dims in full:
            if dims[position].size not in (1, size):
                raise Broken(
                    Piece("operand", i), errors.operand_rank(str(node.inputs[i].type), f"the size {size} at {position}")
                )
        out.append(next(dims[position] for _, dims in full if dims[position].size == size))
    return tuple(out)


def _dtypes(node: Node) -> tuple[str, ...]:
    """What a function makes of the dtypes of its operands; empty where nothing tells."""
    fn, inputs = node.fn, node.inputs
    if fn in _CASTS:
        return ()
    first = inputs[0].type.dtype
    if fn in _COMPARISONS:
        same_dtype(node, range(len(inputs)))
        return ("bool",)
    if fn == "is_finite":
        return ("bool",)
    if fn in _TO_REAL:
        return (real_of(first),)
    if fn in _TO_COMPLEX:
        same_dtype(node, range(len(inputs)))
        return (first if is_complex(first) else complex_of(first),)
    if fn in ("select_n", "select_if_vmap"):
        must(len(inputs) > 1, Piece("op"), errors.rule_needs("at least one value to choose"))
        must(first == "bool" or is_integer(first), Piece("operand"), errors.operand_dtype(first, "bool or an integer"))
        return (same_dtype(node, range(1, len(inputs))),)
    if fn in _POWERS:
        return (first,)
    return (same_dtype(node, range(len(inputs))),)
