"""Lists the collectives of a compiled step, from the text of the module right after XLA's SPMD partitioner.

That module is the truth that a plan is compared with: sharding has become communication, and the backend has not yet
merged, split or hidden any of it. Each collective gets the mesh axes it runs over, its bytes, how many times a step
does it (loops included), and the source line it came from.

Bytes are per group, as docs/compile.md has them: an all-gather's result; an all-reduce's or reduce-scatter's operand;
an all-to-all's or permute's operand, which is one device's part.

A program for several TPU slices is that of one of them, whose partition ids are the places in the mesh without the axis
of the slices; see `levanter.compiler.verify.slices`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePath

import levanter
from levanter.compiler.verify.groups import Groups, MeshAxes, parse_groups, parse_pairs
from levanter.compiler.verify.hlo_text import Computation, Instruction, Module, parse, split
from levanter.compiler.verify.loops import Scope, trip_count
from levanter.compiler.verify.shards import read_in_shards
from levanter.compiler.verify.slices import Across, crossings
from passes.hardware.network import SLOW_AXIS

KINDS = {
    "all-gather": "all_gather",
    "all-reduce": "all_reduce",
    "reduce-scatter": "reduce_scatter",
    "all-to-all": "all_to_all",
    "ragged-all-to-all": "all_to_all",
    "collective-permute": "permute",
    "collective-broadcast": "broadcast",
}
_CHAIN = re.compile(r'chain_id="?(\d+)')
_CALLED_ONCE = ("calls", "to_apply", "true_computation", "false_computation", "branch_computations")


@dataclass(frozen=True)
class CompiledCollective:
    """One collective of the compiled step.

    Attributes:
        kind: all_gather, all_reduce, reduce_scatter, all_to_all, permute or broadcast.
        mesh_axes: the mesh axes it runs over, in mesh order; () when its groups are no set of mesh axes.
        bytes: per group and occurrence, after gathering or before reducing.
        count: how many times a step does it.
        source: "file.py:line" of the user's code, or None when the compiler recorded none.
        op_name: JAX's name of the operation it came from.
        instruction: its name in the compiled program.
        count_known: False inside a loop whose trip count the program does not say; such a loop counts as one trip.
        dtype: of its elements, as XLA writes it.
    """

    kind: str
    mesh_axes: tuple[str, ...]
    bytes: int
    count: int
    source: str | None
    op_name: str
    instruction: str
    count_known: bool = True
    dtype: str = ""


def collectives(text: str, mesh: Mapping[str, int], chips: Sequence[int] = ()) -> list[CompiledCollective]:
    """The collectives in the text of a partitioned module, in program order, those over one device left out.

    Args:
        text: the HLO module, as XLA dumps it after `spmd-partitioning`.
        mesh: axis name → size, in mesh order; partition ids are row-major over it.
        chips: of several TPU slices, the numbers of the chips of the mesh, slice by slice.

    Raises:
        WorkFailed: the text is not HLO as this reader knows it.
    """
    module = parse(text)
    slices = mesh.get(SLOW_AXIS, 1)
    inside = {axis: size for axis, size in mesh.items() if axis != SLOW_AXIS}
    if slices > 1 and module.num_partitions * slices == prod(mesh.values()):
        whole = MeshAxes({SLOW_AXIS: slices, **inside})
        reader = _Reader(module, MeshAxes(inside), module.num_partitions, tuple(mesh), whole, *crossings(module, chips))
    else:
        reader = _Reader(module, MeshAxes(mesh), max(module.num_partitions, prod(mesh.values())), tuple(mesh))
    return list(reader.read(Scope(module.computations[module.entry]), times=1, known=True))


@dataclass(frozen=True)
class _Reader:
    """Walks the computations as the program runs them, multiplying counts by trip counts.

    Attributes:
        axes: of the mesh that the program is for, which is that of one slice where there are several.
        order: the axes of the whole mesh.
        across: its axes, where there are several slices.
        crossed: by the name of a `send`, what leaves the slice.
        parts: by name and result, collectives of the slice that are parts of these.
    """

    module: Module
    axes: MeshAxes
    partitions: int
    order: tuple[str, ...]
    across: MeshAxes | None = None
    crossed: Mapping[str, Across] = field(default_factory=dict[str, Across])
    parts: Collection[tuple[str, int]] = ()

    def read(
        self, scope: Scope, times: int, known: bool, chains: set[str] | None = None
    ) -> Iterator[CompiledCollective]:
        """The collectives of a computation and of those that it runs. `chains` are those begun before, by their id."""
        chains = set() if chains is None else chains
        for instruction in scope.computation.instructions.values():
            kind = KINDS.get(instruction.opcode.removesuffix("-start"))
            if kind is not None:
                if _goes_on(instruction, chains):
                    continue
                found = self._collective(scope.computation, instruction, kind, times, known)
                yield from (each for i, each in enumerate(found) if (instruction.name, i) not in self.parts)
            elif instruction.name in self.crossed:
                yield self._between_slices(instruction, self.crossed[instruction.name], times, known)
            elif instruction.opcode == "while":
                yield from self._loop(scope, instruction, times, known, chains)
            else:
                for name in called(instruction):
                    yield from self.read(Scope(self.module.computations[name]), times, known, chains)

    def _loop(
        self, scope: Scope, loop: Instruction, times: int, known: bool, chains: set[str]
    ) -> Iterator[CompiledCollective]:
        trips = trip_count(self.module, scope, loop)
        known, trips = known and trips is not None, 1 if trips is None else trips
        for attribute, runs in (("condition", trips + 1), ("body", trips)):
            computation = self.module.computations[loop.attributes[attribute].lstrip("%")]
            yield from self.read(Scope(computation, loop, scope), times * runs, known, chains)

    def _collective(
        self, computation: Computation, instruction: Instruction, kind: str, times: int, known: bool
    ) -> Iterator[CompiledCollective]:
        groups, axes = self._over(instruction, kind)
        if all(len(set(group)) == 1 for group in groups) or times == 0:
            return
        dtype = next((shape.dtype for shape in instruction.shapes if shape.bytes), "")
        for element, size in enumerate(_sizes(computation, instruction, kind)):
            yield CompiledCollective(
                self._kind(computation, instruction, element, kind, groups),
                axes,
                size,
                times,
                source_of(self.module.frames(instruction)),
                instruction.op_name,
                instruction.name,
                known,
                dtype,
            )

    def _over(self, instruction: Instruction, kind: str) -> tuple[Groups, tuple[str, ...]]:
        """The groups of a collective, and the mesh axes that these are."""
        if kind == "permute":
            pairs = parse_pairs(instruction.attributes["source_target_pairs"])
            return pairs, self.axes.of_pairs(pairs)
        groups = parse_groups(instruction.attributes.get("replica_groups", ""), self.partitions)
        return groups, self.axes.of_groups(groups)

    def _between_slices(self, send: Instruction, across: Across, times: int, known: bool) -> CompiledCollective:
        assert self.across is not None
        recognized = self.across.of_pairs if across.kind == "permute" else self.across.of_groups
        axes = set(recognized(across.groups))
        if across.inside is not None:
            axes.update(self._over(across.inside, across.kind)[1])
        return CompiledCollective(
            across.kind,
            tuple(axis for axis in self.order if axis in axes),
            across.bytes,
            times,
            source_of(self.module.frames(across.inside or send)),
            (across.inside or send).op_name,
            send.name,
            known,
            across.dtype,
        )

    def _kind(self, computation: Computation, instruction: Instruction, element: int, kind: str, groups: Groups) -> str:
        if kind == "all_reduce" and read_in_shards(computation, instruction, element, groups, self.partitions):
            return "reduce_scatter"
        return kind


def _goes_on(instruction: Instruction, chains: set[str]) -> bool:
    """Whether it is a later piece of a collective that the TPU compiler runs inside of several fusions in a row."""
    found = _CHAIN.search(instruction.attribute_text)
    if found is None:
        return False
    chain = f"{instruction.opcode} {found.group(1)}"
    goes_on = chain in chains
    chains.add(chain)
    return goes_on


def _sizes(computation: Computation, instruction: Instruction, kind: str) -> list[int]:
    """The bytes of each array a collective moves: several when it is variadic."""
    operands = [sum(s.bytes for s in computation.instructions[name].shapes) for name in instruction.operands]
    if kind == "all_gather":
        # The asynchronous form returns (operands, results).
        return [shape.bytes for shape in instruction.shapes[-len(operands) :]]
    if kind == "all_to_all" and instruction.is_tuple:
        # One operand for each member of the group: together they are one all-to-all.
        return [sum(operands)]
    return operands[:1] if kind == "permute" else operands


def called(instruction: Instruction) -> list[str]:
    """The computations an instruction runs once: calls, fusions, and each branch of a conditional."""
    if not any(f"{key}=" in instruction.attribute_text for key in _CALLED_ONCE):
        return []
    found: list[str] = []
    for key in _CALLED_ONCE:
        value = instruction.attributes.get(key, "")
        found.extend(name.lstrip("%") for name in split(value.strip("{}")))
    return found


def source_of(frames: list[tuple[str, int]]) -> str | None:
    """The innermost frame of the user's code: models of `levanter` are, the libraries below them are not."""
    if not frames:
        return None
    own = Path(levanter.__file__).resolve().parent.parent
    file, line = next((frame for frame in frames if not _is_library(frame[0], own)), frames[0])
    return f"{PurePath(file).name}:{line}"


def _is_library(file: str, own: Path) -> bool:
    path = PurePath(file)
    if path.is_relative_to(own):
        return path.relative_to(own).parts[0] in ("haliax", "ir", "passes")
    return bool({"site-packages", "dist-packages"} & set(path.parts))
