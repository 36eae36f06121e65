"""Which factors of one shape are which of another: a reshape as merges and splits of neighbouring dims."""

from collections.abc import Sequence

Group = tuple[list[int], list[int]]


def groups(before: Sequence[int], after: Sequence[int]) -> list[Group]:
    """The positions on both sides of a reshape, cut into the smallest runs of equal product, in order.

    Dims of size 1 come and go freely: one that only comes is a group without positions before, one that only goes a
    group without positions after. Where a size is 0 nothing can be aligned: what is left after is a group of its own.
    """
    found: list[Group] = []
    source, target = 0, 0
    while source < len(before) or target < len(after):
        one_before = source < len(before) and before[source] == 1
        one_after = target < len(after) and after[target] == 1
        if one_after and not one_before:
            found.append(([], [target]))
            target += 1
        elif one_before and not one_after:
            found.append(([source], []))
            source += 1
        elif source == len(before) or target == len(after):
            found += [([], [position]) for position in range(target, len(after))]
            break
        else:
            taken, made = _run(before, after, source, target)
            found.append((taken, made))
            source, target = source + len(taken), target + len(made)
    return found


def _run(before: Sequence[int], after: Sequence[int], source: int, target: int) -> Group:
    """The smallest run from two positions on."""
    taken, made = [source], [target]
    left, right = before[source], after[target]
    source, target = source + 1, target + 1
    while left != right and (source < len(before) or target < len(after)):
        if (left < right and source < len(before)) or target == len(after):
            taken.append(source)
            left *= before[source]
            source += 1
        else:
            made.append(target)
            right *= after[target]
            target += 1
    return taken, made


def factors(before: Sequence[int], after: Sequence[int]) -> list[Group]:
    """The groups without their dims of size 1, and without groups of nothing else."""
    real = [
        ([p for p in left if before[p] != 1], [p for p in right if after[p] != 1])
        for left, right in groups(before, after)
    ]
    return [(left, right) for left, right in real if left and right]
