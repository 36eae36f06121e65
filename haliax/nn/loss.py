"""Loss functions. They compute in float32 (or wider) and give the dtype that `jnp` would promote their arguments to."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from haliax import errors
from haliax.axis import AxisSelection, AxisSelector, find
from haliax.core.array import NamedArray, wrap
from haliax.core.explicit import on_any_mesh
from haliax.nn._inputs import require
from haliax.nn.softmax import logsumexp
from haliax.ops import elementwise
from haliax.ops.align import aligned, require_beside, require_boolean, require_same_sizes
from haliax.ops.contract import dot
from haliax.ops.create import arange
from haliax.ops.elementwise import astype
from haliax.ops.reduce import mean, sum
from haliax.util import UNSPECIFIED, Unspecified

Reduction = Callable[..., NamedArray] | None | Unspecified
"""How losses become one: a function such as `haliax.mean` (the default) or `haliax.sum`; None for not at all."""


def cross_entropy_loss(
    logits: NamedArray,
    Label: AxisSelector,
    targets: NamedArray,
    reduction: Reduction = UNSPECIFIED,
    where: NamedArray | None = None,
    reduction_axis: AxisSelection | None = None,
) -> NamedArray:
    """The cross entropy of the targets under `softmax(logits, Label)`, in nats.

    Args:
        logits: unnormalized log probabilities, with the axis `Label`.
        Label: the axis of the classes.
        targets: probabilities (or one-hot vectors) with the axis `Label`; or, without it, the integer class of each
            element, which must be in range: an integer out of range counts as a class of logit zero.
        reduction: of the losses, a function such as `haliax.mean` (the default) or `haliax.sum`; None for none.
        where: which losses count.
        reduction_axis: the axes to reduce; all by default.

    Returns:
        The reduced loss; with `reduction=None` a loss for each element, without the axis `Label`.

    Raises:
        AxisError: if `logits` lacks the axis, or the axes of the targets or of `where` do not fit.
        NamedTypeError: if an argument is not a NamedArray, or `where` is not boolean.

    >>> logits = hax.zeros({"batch": 2, "classes": 4})
    >>> hax.nn.cross_entropy_loss(logits, "classes", hax.named([3, 0], "batch"))
    f32[] 1.3863
    """
    loss, _ = cross_entropy_loss_and_log_normalizers(logits, Label, targets)
    return _reduced("cross_entropy_loss", loss, reduction, reduction_axis, where)


def cross_entropy_loss_and_log_normalizers(
    pred_y: NamedArray, Label: AxisSelector, target_y: NamedArray
) -> tuple[NamedArray, NamedArray]:
    """The cross entropy of each element, in nats, and the logarithm of the sum of the exponentials of its logits.

    The cross entropy is `-sum(targets * log_softmax(logits))`: of targets that are all zero it is zero. Integer targets
    select by comparing with an iota and summing, not by a gather: where `Label` is spread over devices,
    each device then sums its part.

    Args and errors are those of `cross_entropy_loss`.
    """
    require("cross_entropy_loss", "logits", pred_y, Label)
    require("cross_entropy_loss", "targets", target_y, ())
    label = pred_y.axes[find(pred_y.axes, Label, pred_y)]
    require_same_sizes("cross_entropy_loss", "targets", target_y, "`logits`", pred_y)
    logits = _at_least_float32(pred_y)
    log_normalizers = logsumexp(logits, label)
    if any(axis.name == label.name for axis in target_y.axes):
        dtype = jnp.promote_types(pred_y.dtype, target_y.dtype)
        loss = dot(_at_least_float32(target_y), log_normalizers - logits, axis=label)
    elif jnp.issubdtype(target_y.dtype, jnp.integer):
        require_beside("cross_entropy_loss", "targets", target_y, "`logits`", pred_y)
        dtype = pred_y.dtype
        classes = arange(label, dtype=target_y.dtype)
        loss = log_normalizers - sum(_selected(logits, classes, target_y), axis=label)
    else:
        raise errors.targets_without_label(label.name, pred_y, target_y)
    return astype(loss, dtype), astype(log_normalizers, pred_y.dtype)


@on_any_mesh
def _selected(logits: NamedArray, classes: NamedArray, targets: NamedArray) -> NamedArray:
    """The logits where the class is the target, zero elsewhere."""
    hit = jnp.equal(aligned(classes, logits.axes), aligned(targets, logits.axes))
    return wrap(jnp.where(hit, logits.array, jnp.zeros((), logits.dtype)), logits.axes)


def _at_least_float32(array: NamedArray) -> NamedArray:
    return astype(array, jnp.promote_types(array.dtype, jnp.float32))


@on_any_mesh
def binary_cross_entropy_loss(
    logits: NamedArray,
    targets: NamedArray,
    reduction: Reduction = UNSPECIFIED,
    where: NamedArray | None = None,
    reduction_axis: AxisSelection | None = None,
) -> NamedArray:
    """The cross entropy of independent yes-or-no targets (probabilities) under `sigmoid(logits)`, in nats.

    The other arguments are those of `cross_entropy_loss`.
    """
    require("binary_cross_entropy_loss", "logits", logits, ())
    options = {"may_have_all": True, "by_position": False}
    require_beside("binary_cross_entropy_loss", "targets", targets, "`logits`", logits, **options)
    x = _at_least_float32(logits)
    y = astype(targets, x.dtype)
    loss = wrap(jnp.logaddexp(x.array, 0.0), x.axes) - x * y
    return _reduced("binary_cross_entropy_loss", astype(loss, logits.dtype), reduction, reduction_axis, where)


def maybe_reduce_loss(
    arr: NamedArray,
    reduction: Reduction = UNSPECIFIED,
    reduction_axis: AxisSelection | None = None,
    where: NamedArray | None = None,
) -> NamedArray:
    """The loss reduced by `reduction` (the mean by default) over the axes; with None as it is, zero where not counted.

    Args:
        arr: the losses.
        reduction: a function such as `haliax.mean` (the default) or `haliax.sum`; None for none.
        reduction_axis: the axes to reduce; None for all.
        where: which losses count.

    Raises:
        AxisError: for an axis that the loss lacks, or a `where` that does not fit it.
        NamedTypeError: if `where` is not boolean.
    """
    return _reduced("maybe_reduce_loss", arr, reduction, reduction_axis, where)


def _reduced(
    function: str,
    loss: NamedArray,
    reduction: Reduction,
    reduction_axis: AxisSelection | None,
    where: NamedArray | None,
) -> NamedArray:
    require(function, "loss", loss, reduction_axis or ())
    if where is not None:
        require_beside(function, "where", where, "the loss", loss, may_have_all=reduction is None)
    if reduction is None:
        return loss if where is None else elementwise.where(where, loss, 0.0)
    if isinstance(reduction, Unspecified):
        if where is not None:
            require_boolean(function, where)
        return mean(loss, axis=reduction_axis, where=where)
    if not callable(reduction):
        raise errors.not_a_reduction(function, reduction)
    return reduction(loss, axis=reduction_axis, where=where)


reduce_loss = maybe_reduce_loss
