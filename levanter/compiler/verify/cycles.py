"""How long the compiler thinks that a step takes: the cycles that a TPU program carries for each of its operations.

XLA's TPU compiler writes `estimated_cycles` beside each fusion, copy and the like that it has tiled; collectives have
none. They are summed by the source line that an operation came from, loops times their trip counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from levanter.compiler.verify.hlo import called, source_of
from levanter.compiler.verify.hlo_text import Instruction, Module, parse
from levanter.compiler.verify.loops import Scope, trip_count
from passes.summary import Operation

_CHAIN = re.compile(r'chain_id="?(\d+)')
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_COMPUTES = frozenset({"fusion", "convolution", "dot", "custom-call", "sort", "scatter", "gather", "reduce", "copy"})
_NO_WORK = re.compile(r'custom_call_target="(?:AllocateBuffer|Sharding|SPMD|AssumeGatherIndicesInBound)')


@dataclass(frozen=True)
class CompiledCycles:
    """Of one step on one device.

    Attributes:
        total: cycles of all operations, loop trips included.
        by_source: the same for each source line, the most first; None for what the compiler recorded no line of.
        uncounted: how many operations that compute have no estimate.
    """

    total: int
    by_source: dict[str | None, int]
    uncounted: int


def estimated_cycles(text: str) -> CompiledCycles:
    """The estimates in the text of an optimized module.

    Raises:
        WorkFailed: the text is not HLO as this reader knows it.
    """
    module = parse(text)
    found: dict[str | None, int] = {}
    uncounted = 0
    for instruction, times in _executed(module, Scope(module.computations[module.entry]), 1):
        estimate = _CYCLES.search(instruction.attribute_text)
        if estimate is not None:
            source = source_of(module.frames(instruction))
            found[source] = found.get(source, 0) + times * int(estimate.group(1))
        elif instruction.opcode in _COMPUTES and not _NO_WORK.search(instruction.attribute_text):
            uncounted += 1
    ranked = dict(sorted(found.items(), key=lambda item: -item[1]))
    return CompiledCycles(sum(found.values()), ranked, uncounted)


def cycles_beside(text: str) -> dict[str, int]:
    """By the names of collectives that the compiler runs in pieces inside of fusions, the cycles that the operations of
    these fusions take, loop trips included: what hides them. A collective has the name of its first piece.

    Raises:
        WorkFailed: the text is not HLO as this reader knows it.
    """
    module = parse(text)
    pieces: dict[str, list[tuple[str, str]]] = {}
    for name, computation in module.computations.items():
        for instruction in computation.instructions.values():
            chain = _CHAIN.search(instruction.attribute_text)
            if chain is not None:
                pieces.setdefault(name, []).append((f"{instruction.opcode} {chain.group(1)}", instruction.name))
    first: dict[str, str] = {}
    found: dict[str, int] = {}
    for instruction, times in _executed(module, Scope(module.computations[module.entry]), 1):
        estimate = _CYCLES.search(instruction.attribute_text)
        for chain, name in pieces.get(instruction.attributes.get("calls", "").lstrip("%"), ()):
            collective = first.setdefault(chain, name)
            found[collective] = found.get(collective, 0) + (times * int(estimate.group(1)) if estimate else 0)
    return found


def beside_cycles(predicted: Sequence[Operation], text: str) -> dict[str, Any]:
    """The `cycles` of `verify` (docs/compile.md): the compiler's estimate of a step beside the plan's, by source line.

    Args:
        predicted: seconds of the plan's operations.
        text: the optimized module.
    """
    compiled = estimated_cycles(text)
    seconds = {each.source: each.seconds for each in predicted}
    all_seconds = sum(seconds.values())
    rows = [
        {
            "source": source,
            "predicted_seconds": seconds.get(source, 0.0),
            "predicted_share": seconds.get(source, 0.0) / all_seconds if all_seconds else 0.0,
            "compiled_cycles": compiled.by_source.get(source, 0),
            "compiled_share": compiled.by_source.get(source, 0) / compiled.total if compiled.total else 0.0,
        }
        for source in {**compiled.by_source, **seconds}
    ]
    return {
        "predicted_seconds": all_seconds,
        "compiled_cycles": compiled.total,
        "uncounted": compiled.uncounted,
        "sources": rows,
    }


def _executed(module: Module, scope: Scope, times: int) -> Iterator[tuple[Instruction, int]]:
    """Each operation that runs by itself, with how often; what is inside a fusion is part of it."""
    for instruction in scope.computation.instructions.values():
        if instruction.opcode == "while":
            trips = trip_count(module, scope, instruction) or 1
            for attribute in ("condition", "body"):
                body = module.computations[instruction.attributes[attribute].lstrip("%")]
                yield from _executed(module, Scope(body, instruction, scope), times * trips)
        elif instruction.opcode in ("call", "conditional", "async-start"):
            for name in called(instruction):
                yield from _executed(module, Scope(module.computations[name]), times)
        else:
            yield instruction, times
