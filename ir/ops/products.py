"""Which dims of a product are which: a label for each dim of the operands and of the result, as in an einsum."""

from collections.abc import Mapping, Sequence
from typing import Any

from ir.graph import Node
from ir.ops.spread import Labels, places
from ir.types import Dim


def product_labels(node: Node) -> tuple[list[Labels], set[int]]:
    """(labels of both operands and of the result, those that are contracted) of a plain contraction."""
    left, right = (list(range(len(operand.type.dims))) for operand in node.inputs[:2])
    (left_over, right_over), (left_batch, right_batch) = _numbers(node)
    second: list[int] = [len(left) + position for position in right]
    for a, b in (*zip(left_over, right_over, strict=True), *zip(left_batch, right_batch, strict=True)):
        second[b] = a
    free = [a for a in left if a not in left_over and a not in left_batch]
    rest = [second[b] for b in right if b not in right_over and b not in right_batch]
    return [left, second, [*left_batch, *free, *rest]], set(left_over)


def _numbers(node: Node) -> tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]]:
    """The dimension numbers; of a node without its primitive, as its attributes and names tell them."""
    if node.origin is not None:
        return node.origin.params["dimension_numbers"]
    left, right = (operand.type.dims for operand in node.inputs[:2])
    over = node.dims("over")
    left_over, right_over = places(left, over), places(right, node.dims("with") or over)
    out = node.outputs[0].type.dims
    lead = out[: (len(left) + len(right) - 2 * len(over) - len(out))]
    partner = dict(zip(node.dims("batch"), node.dims("batch_with"), strict=False))
    bare = [Dim(dim.name, dim.size) for dim in lead]
    return (left_over, right_over), (
        _places_but(left, bare, left_over),
        _places_but(right, [partner.get(dim, dim) for dim in bare], right_over),
    )


def _places_but(dims: Sequence[Dim], listed_: Sequence[Dim], taken: Sequence[int]) -> list[int]:
    """Where listed dims stand among those that are not taken."""
    free = [position for position in range(len(dims)) if position not in taken]
    return [free[at] for at in places([dims[position] for position in free], listed_)]


def convolved_labels(node: Node) -> tuple[list[Labels], set[int], set[int]]:
    """(labels, contracted, whole) of a convolution: the batch and what is made may be sharded, and so may the features
    that are contracted. Of groups of one feature, or of one example, each device has its own."""
    if node.origin is None:
        return named_labels(node)
    params, dims = node.origin.params, node.inputs[0].type.dims
    image, kernel, out = params["dimension_numbers"]
    batch, features, made, first = 0, 1, 2, 3
    places: list[int | None] = [first + i if _is_pointwise(node, params, i) else None for i in range(len(kernel) - 2)]
    rows: list[list[int | None]] = [
        [batch, features, *places],
        [made, features, *[None] * len(places)],
        [batch, made, *places],
    ]
    whole: set[int] = set()
    for key, column in (("batch_group_count", 0), ("feature_group_count", 1)):
        if params[key] > 1 and params[key] == dims[int(image[column])].size:
            rows[0][column] = made
            # Of the groups' own, one feature, or one example, is left.
            rows[2 if column == 0 else 1][column] = None
        elif params[key] > 1:
            whole |= {batch if column == 0 else features, made}
    labels: list[Labels] = []
    for numbers, row in zip((image, kernel, out), rows, strict=True):
        own: list[int | None] = [None] * len(numbers)
        for position, label in zip(numbers, row, strict=True):
            own[position] = label
        labels.append(own)
    return labels, {features}, whole


def in_groups(node: Node) -> bool:
    """Whether a convolution is cut into groups that are more than one feature, or one example, each."""
    if node.fn != "convolve" or node.origin is None:
        return len(node.dims("along")) > len(node.dims("window")) > 0
    params, dims = node.origin.params, node.inputs[0].type.dims
    columns = zip(("batch_group_count", "feature_group_count"), params["dimension_numbers"].lhs_spec[:2], strict=True)
    return any(1 < params[key] != dims[int(axis)].size for key, axis in columns)


def _is_pointwise(node: Node, params: Mapping[str, Any], i: int) -> bool:
    """Whether along one dim each place of the result is made from the same place of the image alone."""
    window = node.inputs[1].type.dims[int(params["dimension_numbers"][1][2 + i])].size
    steps = (params["window_strides"][i], params["lhs_dilation"][i], params["rhs_dilation"][i])
    return window == 1 and steps == (1, 1, 1) and tuple(params["padding"][i]) == (0, 0)


def named_labels(node: Node) -> tuple[list[Labels], set[int], set[int]]:
    """The same by names alone: what `along` and `window` list, and what the operands do not have, is whole."""
    numbers: dict[str, int] = {}
    partner = dict(zip(node.names("with"), node.names("over"), strict=False))
    partner |= dict(zip(node.names("batch_with"), node.names("batch"), strict=False))
    labels: list[Labels] = []
    for value in (*node.inputs, node.outputs[0]):
        names = [dim.name for dim in value.type.dims]
        own = [partner.get(name, name) if value is node.inputs[1] and name else name for name in names]
        labels.append([numbers.setdefault(name, len(numbers)) if name else None for name in own])
    blocked = {*node.names("along"), *node.names("window")}
    made = {label for label in labels[-1] if label not in {each for row in labels[:-1] for each in row}}
    whole = {number for name, number in numbers.items() if name in blocked or number in made}
    return labels, {numbers[name] for name in node.names("over") if name in numbers}, whole
