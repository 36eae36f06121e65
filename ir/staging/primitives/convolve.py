"""Convolutions: a contraction over features, with a window sliding over the spatial dims.

Batch and output features are free dims, input features are contracted, spatial dims must be replicated. A
dim of the result along space is one of two things: a place (forward, and backward to the image), which has the name of
the image's dim, or an offset of the window (backward to the kernel), which is the kernel's and named by what it meets.
"""

from ir.staging.primitives.registry import Axes, Dims, Draft, Equation, Plain, agreed, rule
from ir.staging.unify import DimClass


@rule("conv_general_dilated")
def convolve(equation: Equation) -> Draft:
    """`over` are the contracted features, `along` the dims that the window slides over or that are cut into groups,
    `window` the dims of the window."""
    (image, kernel), unifier = equation.dims, equation.unifier
    batch, features, *places = (image[axis] for axis in equation.numbers("lhs_spec"))
    made, taken, *window = (kernel[axis] for axis in equation.numbers("rhs_spec"))
    out_at = equation.numbers("out_spec")
    along: list[DimClass] = []
    over: Dims = (taken,)
    pairs: list[tuple[DimClass, DimClass]] = []
    if equation.integer("feature_group_count") == 1:
        over, pairs = (features,), [(features, taken)]
    elif unifier.size_of(taken) == 1 and unifier.size_of(made) == unifier.size_of(features):
        over, pairs = (), [(features, made)]  # depthwise: each feature by itself
    else:
        along += [features, made]
    if equation.integer("batch_group_count") > 1:
        size = equation.out_shape[out_at[0]]
        if size == 1 and unifier.size_of(batch) == unifier.size_of(made):
            pairs.append((batch, made))
        else:
            along += [batch, made]
        batch = unifier.fresh(size)
    attrs: dict[str, Axes | Plain] = agreed(equation, pairs)
    out = list(equation.fresh(equation.out_shape))
    out[out_at[0]], out[out_at[1]] = batch, made
    for i, (place, offset) in enumerate(zip(places, window, strict=True)):
        if _untouched(equation, i, offset):
            out[out_at[2 + i]] = place
            continue
        along.append(place)
        size = equation.out_shape[out_at[2 + i]]
        if not _is_offset(equation, i, place, offset, size):
            out[out_at[2 + i]] = place if unifier.size_of(place) == size else unifier.resized(place, size)
    attrs |= {"over": Axes(over), "window": Axes(tuple(window))}
    if along:
        attrs["along"] = Axes(tuple(along))
    return Draft("contract", "convolve", (tuple(out),), attrs)


def _untouched(equation: Equation, i: int, offset: DimClass) -> bool:
    """Whether the window is one place wide and visits every place once: a 1x1 convolution."""
    return (
        equation.unifier.size_of(offset) == 1
        and equation.ints("window_strides")[i] == 1
        and tuple(equation.params["padding"][i]) == (0, 0)
        and equation.ints("lhs_dilation")[i] == 1
    )


def _is_offset(equation: Equation, i: int, place: DimClass, offset: DimClass, size: int) -> bool:
    """Whether the result is a kernel's gradient along spatial dim i: then the "window" is a cotangent, which lies on
    the same dim as the image (or, where the convolution had strides, on one of its name, dilated)."""
    unifier = equation.unifier
    if unifier.find(place) == unifier.find(offset):
        return True
    dilated, strided = equation.ints("rhs_dilation")[i] > 1, equation.ints("window_strides")[i] > 1
    name = unifier.name_of(place)
    return (
        name is not None
        and name == unifier.name_of(offset)
        and (dilated or not strided)
        and size < unifier.size_of(offset)
    )
