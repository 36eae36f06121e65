"""Why a plan is what it is, in words: each choice is undone alone, and what that would cost is the reason for it."""

from collections.abc import Callable, Mapping

from passes.errors import gib
from passes.hardware.network import SLOW_AXIS

Axes = Mapping[str, tuple[str, ...]]
Reprice = Callable[[Axes, Axes], tuple[float, int]]
"""From (compute, storage) to (seconds of a step, peak bytes)."""

_EVEN = 0.005


def reasons(
    names: tuple[str, ...],
    fixed: Mapping[str, str],
    compute: Axes,
    storage: Axes,
    seconds: float,
    capacity: int,
    reprice: Reprice,
) -> dict[str, str]:
    """For every name, in order, one line."""
    return {name: fixed.get(name) or _reason(name, compute, storage, seconds, capacity, reprice) for name in names}


def _reason(name: str, compute: Axes, storage: Axes, seconds: float, capacity: int, reprice: Reprice) -> str:
    parts: list[str] = []
    if compute.get(name):
        without = {key: axes for key, axes in compute.items() if key != name}
        kept = {
            key: tuple(axis for axis in axes if key != name or axis not in compute[name])
            for key, axes in storage.items()
        }
        parts.append(_worth("computed", compute[name], *reprice(without, kept), seconds, capacity))
    extra = tuple(axis for axis in storage.get(name, ()) if axis not in compute.get(name, ()))
    if extra:
        kept = {key: axes if key != name else compute.get(name, ()) for key, axes in storage.items()}
        parts.append(_worth("stored", extra, *reprice(compute, kept), seconds, capacity))
    return "; ".join(parts) or "replicated: no way of sharding it is faster"


def _worth(role: str, axes: tuple[str, ...], slower: float, peak: int, seconds: float, capacity: int) -> str:
    where = f"{role} on {', '.join(axes)}"
    if said := _without(slower, peak, seconds, capacity):
        return f"{where}: {said}"
    slow = " (crosses the slow network)" if SLOW_AXIS in axes else ""
    return f"{where}{slow}: costs nothing and saves memory"


def reason_of_order(slower: float, peak: int, seconds: float, capacity: int) -> str:
    """Why names come in another order somewhere, from what a plan costs that has them in one order everywhere."""
    return _without(slower, peak, seconds, capacity) or "without it a step takes as long"


def _without(slower: float, peak: int, seconds: float, capacity: int) -> str:
    """What undoing a choice costs; nothing where a step takes as long."""
    if peak > capacity:
        return f"without it a device needs {gib(peak)} of {gib(capacity)}"
    change = slower / seconds - 1 if seconds else 0.0
    if change > _EVEN:
        return f"without it a step takes {longer(change)}"
    return f"without it a step takes {-change:.0%} less" if change < -_EVEN else ""


def longer(change: float) -> str:
    """`50% longer`, `2.5 times as long`."""
    return f"{change:.0%} longer" if change < 1 else f"{1 + change:.1f} times as long"
