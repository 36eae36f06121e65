"""Numbers as people read them: three significant digits and a unit; and orders of names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import floor, log10

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_bytes(count: int | float) -> str:
    """`512 B`, `4.00 KiB`, `1.21 GiB`: powers of 1024."""
    value, unit = float(count), 0
    while abs(value) >= 1023.5 and unit < len(_BYTES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count:.0f} B" if unit == 0 else f"{_three_digits(value)} {_BYTES[unit]}"


def format_seconds(seconds: float) -> str:
    """`0 s`, `850 ns`, `12.3 µs`, `1.24 ms`, `3.40 s`, `125 s`."""
    if seconds == 0:
        return "0 s"
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if abs(seconds) * factor < 999.5:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{_three_digits(seconds)} s"


def format_percent(part: float, whole: float) -> str:
    """`part` as a share of `whole`: `0.4%`, `12%`; `?` of nothing."""
    if not whole:
        return "?"
    percent = 100 * part / whole
    return f"{percent:.1f}%" if 0 < abs(percent) < 9.95 else f"{percent:.0f}%"


def format_change(new: float, old: float) -> str:
    """By how much `new` differs from `old`: `+14%`, `-0.3%`, `the same`; factors where that is plainer, `3.2×`."""
    if new == old:
        return "the same"
    if not old:
        return "?"
    if new / old >= 2:
        return f"{_three_digits(new / old)}×"
    text = format_percent(new - old, old)
    return text if text.startswith("-") else f"+{text}"


def _three_digits(value: float) -> str:
    """Three significant digits, never fewer than the integer part has."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - floor(log10(abs(value))))
    text = f"{value:.{decimals}f}"
    # Rounding may have carried into one more digit: 9.999 is 10.0, not 10.00.
    return f"{value:.{decimals - 1}f}" if decimals and len(text.lstrip("-").replace(".", "").lstrip("0")) > 3 else text


def ordered(order: Mapping[str, Sequence[str]]) -> str:
    """`experts before batch where mlp is`; of none that is another one somewhere, `one order everywhere`."""
    said = [f"{' before '.join(names)} where {where} is" for where, names in order.items()]
    return ", ".join(said) or "one order everywhere"


def each_part(network: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """`data 4×4×1`, `model 2 nodes` for each mesh axis of an assignment to the physical network."""
    return tuple(f"{axis} {part.replace(' x ', ' × ').replace('x', '×')}" for axis, part in network)


def parts_of(network: Mapping[str, str]) -> str:
    """`data 4×4×1, model 1×1×4`"""
    return ", ".join(each_part(network.items()))
