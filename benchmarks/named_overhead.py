"""What names cost: programs and operations of haliax beside the same in plain `jax.numpy`, as ratios.

    python benchmarks/named_overhead.py [--rounds 15] [--only tracing eager calls compiled]

Measured are tracing and lowering, small operations one by one, calls of compiled functions, and the compiled programs.
Both sides of a pair take turns in one process, so that whatever else the machine does hits both, and each ratio is the
median over the rounds. Seconds are those of the processor, of all cores together, which other processes disturb least.
Prints a table with the limit of each ratio, and writes it to benchmarks/results/named_overhead-DATE.json, where
sections that were not measured this time stay. The exit code is 1 if a limit is passed.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
from overhead_operations import operations
from overhead_programs import Pair, block_forward, seed_attention, sizes, stack, with_gradient
from rich.console import Console
from rich.table import Table

import haliax as hax

RESULTS = Path(__file__).parent / "results"
Call = Callable[[], Any]


class Found(NamedTuple):
    """One line of the table: medians of seconds (or bytes) on both sides, the median ratio, and its limit if any."""

    what: str
    named: float
    plain: float
    ratio: float
    limit: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    options = parser.parse_args()
    console = Console()
    sections = {}
    for name in options.only:
        sections[name] = SECTIONS[name](options.rounds)
        console.print(table_of(name, sections[name]))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"named_overhead-{datetime.date.today().isoformat()}.json"
    answer = {
        **(json.loads(path.read_text()) if path.exists() else {}),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
        "load_average": os.getloadavg()[0],
        "jax": jax.__version__,
        **{name: {found.what: found._asdict() for found in lines} for name, lines in sections.items()},
    }
    path.write_text(json.dumps(answer, indent=1) + "\n")
    console.print(f"written to {path}")
    passed = [f for lines in sections.values() for f in lines if f.limit is not None and f.ratio > f.limit]
    sys.exit(f"over the limit: {', '.join(found.what for found in passed)}" if passed else 0)


def tracing(rounds: int) -> list[Found]:
    """Seconds to trace and lower a new function, library functions being known to JAX already."""
    small = sizes(batch=2, position=8, embed=16, heads=2)
    block, looped, unrolled = block_forward(small), stack(small, unrolled=False), stack(small, unrolled=True)
    programs = {
        "attention of the seed": seed_attention(),
        "block": block,
        "block, gradient": with_gradient(block),
        "12 blocks in a loop": looped,
        "12 blocks in a loop, gradient": with_gradient(looped),
        "12 blocks unrolled": unrolled,
        "12 blocks unrolled, gradient": with_gradient(unrolled),
    }
    return [compared(name, *lowering(pair), rounds, limit=1.15) for name, pair in programs.items()]


def lowering(pair: Pair) -> tuple[Call, Call]:
    def fresh(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Call:
        return lambda: jax.jit(lambda *args: function(*args)).lower(*arguments)

    return fresh(pair.named, pair.named_arguments), fresh(pair.plain, pair.plain_arguments)


def eager(rounds: int) -> list[Found]:
    """Seconds of an operation on small arrays, outside of a trace."""
    found = [compared(op.name, op.named, op.plain, rounds, calls=60) for op in operations()]
    mean = statistics.geometric_mean(line.ratio for line in found)
    return [*found, Found("geometric mean", *(statistics.fmean(line[i] for line in found) for i in (1, 2)), mean, 1.5)]


def calls(rounds: int) -> list[Found]:
    """Seconds to call a function that is compiled already."""
    x = hax.zeros(hax.make_axes(batch=4, embed=8))
    xs = [x + number for number in range(100)]
    arrays = [each.array for each in xs]

    def pair(function: Callable[[Any], Any], named: Any, plain: Any) -> tuple[Call, Call]:
        ours, theirs = hax.named_jit(function), jax.jit(function)
        return lambda: ours(named), lambda: theirs(plain)

    def increment(x: Any) -> Any:
        return x + 1

    def increment_all(xs: list[Any]) -> list[Any]:
        return [x + 1 for x in xs]

    def add_first_two(xs: list[Any]) -> Any:
        return xs[0] + xs[1]

    found = [
        compared("one array to one", *pair(increment, x, x.array), rounds, calls=400, limit=2.0),
        compared("100 arrays to 100", *pair(increment_all, xs, arrays), rounds, calls=30, limit=2.0),
        compared("100 arrays to one", *pair(add_first_two, xs, arrays), rounds, calls=100, limit=1.8),
    ]
    with hax.axis_mapping({"batch": "data", "embed": "model"}):
        line = "one array to one, in an axis mapping"
        return [*found, compared(line, *pair(increment, x, x.array), rounds, calls=400, limit=2.0)]


def compiled(rounds: int) -> list[Found]:
    """Seconds of a compiled program, and the bytes of its temporaries."""
    block = block_forward(sizes(batch=4, position=128, embed=256, heads=4))
    programs = {"attention of the seed": seed_attention(), "block": block, "block, gradient": with_gradient(block)}
    found = []
    for name, pair in programs.items():
        named = jax.jit(pair.named).lower(*pair.named_arguments).compile()
        plain = jax.jit(pair.plain).lower(*pair.plain_arguments).compile()
        run_named = finished(named, pair.named_arguments)
        run_plain = finished(plain, pair.plain_arguments)
        found.append(compared(name, run_named, run_plain, 3 * rounds, limit=1.02))
        ours, theirs = (program.memory_analysis().temp_size_in_bytes for program in (named, plain))
        found.append(Found(f"{name}: bytes of temporaries", ours, theirs, ours / theirs, 1.0))
    return found


def finished(program: Callable[..., Any], arguments: tuple[Any, ...]) -> Call:
    return lambda: jax.block_until_ready(program(*arguments))


SECTIONS = {"tracing": tracing, "eager": eager, "calls": calls, "compiled": compiled}


def compared(
    what: str,
    named: Call,
    plain: Call,
    rounds: int,
    *,
    calls: int = 1,
    limit: float | None = None,
) -> Found:
    """Both sides, taking turns: each round times so many calls of the one and then of the other."""
    for call in (named, plain) * 3:
        call()
    pairs = []
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            first, second = (named, plain) if number % 2 else (plain, named)
            one, two = seconds_of(first, calls), seconds_of(second, calls)
            pairs.append((one, two) if first is named else (two, one))
            gc.collect()
    finally:
        gc.enable()
    medians = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return Found(what, *medians, statistics.median(ours / theirs for ours, theirs in pairs), limit)


def seconds_of(call: Call, calls: int) -> float:
    started = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - started) / calls


def table_of(section: str, lines: list[Found]) -> Table:
    table = Table("", "named", "plain", "ratio", "limit", title=f"{section}: {SECTIONS[section].__doc__}")
    for found in lines:
        unit = 1 if "bytes" in found.what else 1e6
        numbers = [f"{value * unit:,.0f}{'' if unit == 1 else ' µs'}" for value in (found.named, found.plain)]
        table.add_row(found.what, *numbers, f"{found.ratio:.2f}", "" if found.limit is None else f"{found.limit:g}")
    return table


if __name__ == "__main__":
    main()
