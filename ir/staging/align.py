"""Where kin meet: which occurrence of an axis the result of a meeting is, and which operands are renamed to it first.

The dims at one place of two operands may be occurrences of one axis, `position` and `position'`. They are right to
meet; the graph says which of the two is meant by a rename of one operand, as the program itself does where it was
written with names: `k.rename({"position": "key_position"})`.
"""

from collections.abc import Mapping, Sequence

from ir.staging.unify import DimClass, Unifier

Dims = tuple[DimClass, ...]
Columns = Sequence[Sequence[DimClass | None]]
"""For each place of a result, what each operand has there; None where it has nothing of that size."""


def aligned(unifier: Unifier, operands: Sequence[Dims], columns: Columns) -> tuple[Dims, dict[int, Dims]]:
    """Merges what stands at one place, column by column, and chooses an occurrence where kin meet.

    Returns:
        The dims of the result, and for each operand that must be renamed its new dims.
    """
    out = list[DimClass]()
    merged = True
    present = [[dim for dim in column if dim is not None] for column in columns]
    for dims in present:
        out.append(dims[0])
        for dim in dims[1:]:
            merged = unifier.same(dims[0], dim) and merged
    if merged and unifier.are_distinct(out):  # as nearly always
        return tuple(out), {}
    out = list[DimClass]()
    for dims in present:
        roots = list(dict.fromkeys(map(unifier.find, dims)))
        free = [root for root in roots if not any(unifier.alike(root, other) for other in out)]
        kin = [root for root in free if unifier.kin(root, roots[0])] or free
        fewest = min((unifier.primes_of(root) for root in kin), default=0)
        chosen = next((root for root in kin if unifier.primes_of(root) == fewest), None)
        out.append(unifier.occurrence(roots[0], out) if chosen is None else chosen)
    if _crossed(unifier, out, columns):
        return tuple(out), {}
    renamed: dict[int, Dims] = {}
    for i, dims in enumerate(operands):
        new = list(dims)
        for target, column in zip(out, columns, strict=True):
            dim = column[i]
            if dim is not None and unifier.find(dim) != unifier.find(target) and unifier.kin(dim, target):
                new[dims.index(dim)] = target
        apart = all(not unifier.alike(a, b) for j, b in enumerate(new) for a in new[:j])
        if new != list(dims) and apart:
            renamed[i] = tuple(new)
    return tuple(out), renamed


def _crossed(unifier: Unifier, out: Sequence[DimClass], columns: Columns) -> bool:
    """Whether two occurrences that have names of their own meet crosswise: a mask the wrong way round."""
    met = {
        (unifier.name_of(target), unifier.name_of(dim))
        for target, column in zip(out, columns, strict=True)
        for dim in column
        if dim is not None and unifier.kin(dim, target)
    }
    return any(a is not None and b is not None and a != b and (b, a) in met for a, b in met)


def renaming(unifier: Unifier, dims: Dims, target: Dims) -> Dims | None:
    """The dims that a value is renamed to so that it can stand where `target` is; None where nothing is to be done.
    Dims that are the same are merged."""
    unifier.same_all(target, dims)
    return occurring_as(unifier, dims, target)


def occurring_as(unifier: Unifier, dims: Dims, target: Dims) -> Dims | None:
    """The same where nothing is merged: the dims with those of `target` in place of their kin."""
    new = tuple(
        [
            b if unifier.find(a) != unifier.find(b) and unifier.kin(a, b) else a
            for a, b in zip(dims, target, strict=True)
        ]
    )
    return None if new == dims else new


def product(
    unifier: Unifier, left: Dims, right: Dims, pairs: Sequence[tuple[int, int]]
) -> tuple[Dims, Mapping[int, Dims]]:
    """The right operand's dims so that a product with the left one has every dim once: paired dims are the left's, the
    others such as stand neither in the left operand nor in the right one.

    Returns:
        The new dims of the right operand, and the operands to be renamed.
    """
    new = list(right)
    for a, b in pairs:
        if not unifier.same(left[a], right[b]) and unifier.kin(left[a], right[b]):
            new[b] = left[a]
    paired = {b for _, b in pairs}
    # Where two names meet that should be one, the result keeps its names: the mistake is there.
    apart = {a for a, b in pairs if unifier.find(left[a]) != unifier.find(new[b])}
    taken = [dim for a, dim in enumerate(left) if a not in apart]
    taken += [new[b] for a, b in pairs if a not in apart]
    for axis, dim in enumerate(right):
        if axis not in paired:
            if any(unifier.alike(dim, other) for other in taken):
                # The other free dims of the right operand keep their names.
                rest = [new[b] for b in range(len(right)) if b != axis and b not in paired]
                new[axis] = unifier.occurrence(dim, [*taken, *rest])
            taken.append(new[axis])
    dims = tuple(new)
    return dims, ({} if dims == right else {1: dims})
