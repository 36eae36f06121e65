"""Random named programs: lists of numbers that always mean a program which JAX and haliax accept.

An instruction is (operation, three numbers). The numbers choose among what is there: values, axes, sizes. So any list
is a program, a shorter list is a simpler one, and hypothesis shrinks a failure to a few lines. Values stay small and
finite.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import haliax as hax
import haliax.nn as hnn
from haliax import Axis, NamedArray

Instruction = tuple[int, int, int, int]

BATCH, POSITION, EMBED, HEADS, LAYERS = (
    Axis("batch", 2),
    Axis("position", 3),
    Axis("embed", 4),
    Axis("heads", 5),
    Axis("layers", 6),
)
ARGUMENTS = ((BATCH, EMBED), (EMBED, HEADS), (LAYERS, EMBED), (BATCH, POSITION, EMBED), (POSITION, BATCH))
MOST_DIMS = 4


def arguments(seed: int = 0) -> tuple[NamedArray, ...]:
    """Small numbers for every argument of a program."""
    rng = np.random.default_rng(seed)
    shapes = [tuple(axis.size for axis in axes) for axes in ARGUMENTS]
    numbers = [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]
    return tuple(NamedArray(array, axes) for array, axes in zip(numbers, ARGUMENTS, strict=True))


class Chooser:
    """The three numbers of an instruction, as choices."""

    def __init__(self, values: Sequence[NamedArray], numbers: Sequence[int]) -> None:
        self.values = values
        self.numbers = list(numbers)

    def number(self) -> int:
        return self.numbers.pop(0) if self.numbers else 0

    def value(self) -> NamedArray:
        return self.values[self.number() % len(self.values)]

    def axis(self, value: NamedArray) -> Axis:
        return value.axes[self.number() % len(value.axes)]

    def like(self, value: NamedArray) -> NamedArray:
        """A value that has no other axes than the given one."""
        fitting = [each for each in self.values if set(each.axes) <= set(value.axes)]
        return fitting[self.number() % len(fitting)]

    def same_axes(self, value: NamedArray) -> NamedArray:
        """A value of the same axes, in their order."""
        fitting = [each for each in self.values if set(each.axes) == set(value.axes)]
        return fitting[self.number() % len(fitting)].rearrange(value.axes)


def tamed(value: NamedArray) -> NamedArray:
    """Finite and small, whatever it was."""
    return hax.tanh(value)


def elementwise(c: Chooser) -> NamedArray:
    x = c.value()
    functions: tuple[Callable[[Any], Any], ...] = (
        hax.sin,
        hax.square,
        hax.abs,
        hnn.relu,
        hnn.sigmoid,
        lambda v: -v / 2,
    )
    return functions[c.number() % len(functions)](x)


def raw_elementwise(c: Chooser) -> NamedArray:
    x = c.value()
    functions = (jnp.cos, jax.nn.gelu, lambda v: jnp.clip(v, -0.5, 0.5), lambda v: jnp.where(v > 0, v, 0.1 * v))
    return NamedArray(functions[c.number() % len(functions)](x.array), x.axes)


def add(c: Chooser) -> NamedArray:
    x = c.value()
    return x + c.like(x)


def multiply_raw(c: Chooser) -> NamedArray:
    x = c.value()
    return NamedArray(x.array * c.same_axes(x).array, x.axes)


def contract(c: Chooser) -> NamedArray:
    x, y = c.value(), c.value()
    shared = [axis for axis in x.axes if axis in y.axes]
    kept = {axis.name for axis in (*x.axes, *y.axes)}
    if not shared or len(kept) > MOST_DIMS:
        return x
    return tamed(hax.dot(x, y, axis=shared[c.number() % len(shared)]))


def contract_raw(c: Chooser) -> NamedArray:
    """The last axis of one value with the same axis of a matrix, without names."""
    x = c.value()
    matrices = [m for m in c.values if len(m.axes) == 2 and x.axes and m.axes[0] == x.axes[-1]]
    if not matrices:
        return x
    m = matrices[c.number() % len(matrices)]
    if m.axes[1] in x.axes:
        return x
    return NamedArray(jnp.tanh(x.array @ m.array), (*x.axes[:-1], m.axes[1]))


def reduce(c: Chooser) -> NamedArray:
    x = c.value()
    if len(x.axes) < 2:
        return x
    axis = c.axis(x)
    return (hax.sum, hax.mean, hax.max, hax.min)[c.number() % 4](x, axis)


def reduce_raw(c: Chooser) -> NamedArray:
    x = c.value()
    if len(x.axes) < 2:
        return x
    position = c.number() % len(x.axes)
    return NamedArray(jax.nn.logsumexp(x.array, axis=position), (*x.axes[:position], *x.axes[position + 1 :]))


def softmax(c: Chooser) -> NamedArray:
    x = c.value()
    return hnn.softmax(x, c.axis(x))


def rename(c: Chooser) -> NamedArray:
    x = c.value()
    axis = c.axis(x)
    new = f"other_{axis.name}"
    return x if new in {each.name for each in x.axes} or new.count("other_") > 2 else x.rename({axis.name: new})


def rearrange(c: Chooser) -> NamedArray:
    x = c.value()
    first = c.axis(x)
    return x.rearrange((first, *(axis for axis in x.axes if axis != first)))


def flatten(c: Chooser) -> NamedArray:
    """Merges two axes, does something, splits them again."""
    x = c.value()
    if len(x.axes) < 2:
        return x
    start = c.number() % (len(x.axes) - 1)
    pair = x.axes[start : start + 2]
    merged = hax.tanh(x.flatten_axes(pair, "merged"))
    return (
        merged
        if c.number() % 2 and "merged" not in {a.name for v in c.values for a in v.axes}
        else (merged.unflatten_axis("merged", pair))
    )


def reshape_raw(c: Chooser) -> NamedArray:
    x = c.value()
    flat = jnp.sin(x.array.reshape(x.array.shape[0], -1)) * 0.5
    return NamedArray(flat.reshape(x.array.shape), x.axes)


def cut(c: Chooser) -> NamedArray:
    """A slice of an axis, padded to the whole of it again."""
    x = c.value()
    axis = c.axis(x)
    start = c.number() % axis.size
    if axis.size < 2 or start == 0:
        return x
    return hax.concatenate(axis.name, [x[axis.name, start : axis.size], x[axis.name, 0:start]])


def pick(c: Chooser) -> NamedArray:
    x = c.value()
    axis = c.axis(x)
    return x[axis.name, c.number() % axis.size] if len(x.axes) > 1 else x


def take(c: Chooser) -> NamedArray:
    """Rows of one axis by indices along an axis of their own."""
    x = c.value()
    axis = c.axis(x)
    picked = Axis("picked", 3)
    if picked.name in {each.name for each in x.axes} or len(x.axes) >= MOST_DIMS:
        return x
    indices = hax.arange(picked) * (c.number() % 4) % axis.size
    return hax.take(x, axis, indices)


def where(c: Chooser) -> NamedArray:
    x = c.value()
    y = c.like(x)
    return hax.where(x > y, x, 0.5)


def cumulate(c: Chooser) -> NamedArray:
    x = c.value()
    return tamed(hax.cumsum(x, c.axis(x)))


def sort_raw(c: Chooser) -> NamedArray:
    x = c.value()
    return NamedArray(jnp.sort(x.array, axis=c.number() % len(x.axes)), x.axes)


def update_raw(c: Chooser) -> NamedArray:
    """Sets, or adds to, one row by a scatter."""
    x = c.value()
    row = c.number() % x.axes[0].size
    updated = x.array.at[row].add(0.25) if c.number() % 2 else x.array.at[row].set(0.5)
    return NamedArray(updated, x.axes)


def scan(c: Chooser) -> NamedArray:
    """A recurrence along an axis that keeps what it made."""
    x = c.value()
    axis = c.axis(x)
    if len(x.axes) < 2:
        return x

    def body(carry: NamedArray, row: NamedArray) -> tuple[NamedArray, NamedArray]:
        carry = hax.tanh(carry * 0.5 + row)
        return carry, carry * row

    first = x[axis.name, 0]
    last, rows = hax.scan(body, axis, remat=bool(c.number() % 2))(first * 0.0, x)
    return rows + last


def scan_raw(c: Chooser) -> NamedArray:
    x = c.value()
    carry, _ = jax.lax.scan(lambda s, row: (jnp.sin(s + row), None), jnp.zeros(x.array.shape[1:]), x.array)
    return NamedArray(carry, x.axes[1:]) if len(x.axes) > 1 else x


def vmap(c: Chooser) -> NamedArray:
    x = c.value()
    axis = c.axis(x)
    return hax.vmap(lambda row: row * 0.5 + 0.1, axis)(x) if len(x.axes) > 1 else x


def branch(c: Chooser) -> NamedArray:
    x = c.value()
    y = c.same_axes(x)
    chosen = jax.lax.cond(x.array.sum() > 0, lambda a, b: a + b, lambda a, b: jnp.sin(b), x.array, y.array)
    return NamedArray(chosen, x.axes)


def loop(c: Chooser) -> NamedArray:
    x = c.value()
    trips = 1 + c.number() % 3
    return NamedArray(jax.lax.fori_loop(0, trips, lambda i, v: jnp.cos(v) * 0.9, x.array), x.axes)


def remat(c: Chooser) -> NamedArray:
    x = c.value()
    return NamedArray(jax.checkpoint(lambda v: jnp.tanh(jnp.sin(v) * 2))(x.array), x.axes)


OPERATIONS: tuple[Callable[[Chooser], NamedArray], ...] = (
    elementwise,
    raw_elementwise,
    add,
    multiply_raw,
    contract,
    contract_raw,
    reduce,
    reduce_raw,
    softmax,
    rename,
    rearrange,
    flatten,
    reshape_raw,
    cut,
    pick,
    take,
    where,
    cumulate,
    sort_raw,
    update_raw,
    scan,
    scan_raw,
    vmap,
    branch,
    loop,
    remat,
)


def run(program: Sequence[Instruction], given: Sequence[NamedArray]) -> list[NamedArray]:
    """What the instructions make, one after the other; each may use all before it."""
    values = list(given)
    for operation, *numbers in program:
        made = OPERATIONS[operation % len(OPERATIONS)](Chooser(values, numbers))
        if made.axes:
            values.append(made)
    return values[len(given) :]


def step_of(program: Sequence[Instruction]) -> Callable[..., Any]:
    """The forward pass of a program: its last values."""

    def step(*given: NamedArray) -> Any:
        return tuple(run(program, given)[-3:])

    return step


def training_step_of(program: Sequence[Instruction]) -> Callable[..., Any]:
    """A step of gradient descent on all that the program makes."""

    def loss_of(given: tuple[NamedArray, ...]) -> Any:
        return sum((jnp.mean(jnp.square(value.array)) for value in run(program, given)), jnp.float32(0))

    def step(given: tuple[NamedArray, ...]) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(given)
        return jax.tree.map(lambda p, g: p - 0.1 * g, given, gradients), loss

    return step
