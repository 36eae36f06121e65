"""Collectives over several TPU slices, each put together from the operations that XLA makes of it.

The program is that of one slice: its partition ids count the chips of that slice, and what goes to another one leaves
by a `send` and comes back by a `recv`, whose attributes say what happens on the way (`_xla_megascale_transfer_type`)
and between which chips of which slices (`_xla_megascale_target`). A collective over slices and mesh axes inside of them
is done in parts, so that each chip sends as little as it can over the slower network:

- an all-reduce is a reduce-scatter inside, an all-reduce of each shard between slices, and an all-gather inside; a
  vector is reduced inside and then between slices, in full;
- a reduce-scatter is one inside, then one between slices; an all-gather one between slices, then one inside; of shards
  that are no whole tiles, an all-reduce of them amid zeros between slices, then an all-gather inside;
- an all-to-all goes between all chips at once; a permute inside and one between slices read the same value.

Parts of one collective hand over to each other by moves of data alone, and their sizes fit; where they do not, each is
a collective of its own, as where a plan scatters a gradient inside and reduces its shards between slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from levanter.compiler.verify.groups import Groups, parse_groups
from levanter.compiler.verify.hlo_text import Computation, Instruction, Module, Shape, split

_KINDS = {
    "ALL_REDUCE": "all_reduce",
    "ALL_GATHER": "all_gather",
    "REDUCE_SCATTER": "reduce_scatter",
    "ALL_TO_ALL": "all_to_all",
    "ONE_TO_ONE": "permute",
}
_FILLS_UP = 'custom_call_target="ZeroCrop"'
"""What fills an array up to whole tiles."""
_BEGINS = 'custom_call_target="AsyncCollective'
"""What begins and ends a collective that runs beside other operations."""
_SAME_ARRAY = frozenset({"bitcast", "copy", "copy-start", "copy-done", "reshape", "transpose"})
_MOVES = _SAME_ARRAY | {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "broadcast",
    "concatenate",
    "pad",
    "slice",
    "dynamic-slice",
    "dynamic-update-slice",
    "select",
    "opt-barrier",
    "convert",
}
_REDUCES = frozenset({"all-reduce", "reduce-scatter"})
_GATHERS = frozenset({"all-gather"})
_PERMUTES = ("collective-permute", "collective-permute-start")

_SLICE = 100_000
"""What the number of a slice is multiplied by in the numbers of its chips."""


@dataclass(frozen=True)
class Across:
    """A collective that leaves the slice.

    Attributes:
        kind, bytes, dtype: as of `CompiledCollective`.
        groups: the chips that talk to each other between slices, by their places in the mesh, slice by slice.
        inside: the instruction of the part of it that stays in the slice, if there is one.
    """

    kind: str
    bytes: int
    dtype: str
    groups: Groups
    inside: Instruction | None = None


@dataclass(frozen=True)
class Part:
    """A collective inside of the slice, the computation that it is in, and which of its results is meant."""

    computation: Computation
    instruction: Instruction
    result: int = 0

    @property
    def key(self) -> tuple[str, int]:
        return self.instruction.name, self.result

    @property
    def operand(self) -> str:
        return self.instruction.operands[self.result]

    @property
    def array(self) -> Shape:
        """Its operand, as it is in the program."""
        return self.computation.instructions[self.operand].shapes[0]

    @property
    def reduced(self) -> int:
        """The elements of what it reduces."""
        return _elements(self.computation, self.operand)

    @property
    def gathered(self) -> Shape:
        """What it gathers. The asynchronous form returns (operands, results)."""
        return self.instruction.shapes[-1]


def crossings(module: Module, chips: Sequence[int]) -> tuple[dict[str, Across], set[tuple[str, int]]]:
    """What leaves the slice in a program for several, by the name of its `send`; and the collectives inside of the
    slice that are parts of it: the name of each, and which of its results.

    Args:
        chips: the numbers of the chips of the mesh, slice by slice.
    """
    found: dict[str, Across] = {}
    parts: set[tuple[str, int]] = set()
    loops = _loops(module)
    for computation in module.computations.values():
        reader = _Reader(module, computation, chips, parts, loops)
        for each in computation.instructions.values():
            if each.opcode == "send" and "_xla_megascale_transfer_type" in each.attribute_text:
                found[each.name] = reader.across(each)
    return found, parts


def groups_of(target: str, chips: Sequence[int]) -> Groups:
    """The places in the mesh, slice by slice, that a target names: `{1,2}x{0:3}`, which are the slices 1 and 2 and the
    places 0 to 3 of each; or by the numbers of chips, `{{100000,200000}}` and, from one to the other,
    `{{100003->200000}}`.

    Args:
        chips: their numbers in that order.
    """
    slices, crossed, inside = target.partition("}x{")
    if crossed:
        numbers, places = _numbers(slices.lstrip("{")), _numbers(inside.rstrip("}"))
        each = sum(chip // _SLICE == chips[0] // _SLICE for chip in chips)
        return [tuple((number - 1) * each + place for number in numbers) for place in places]
    at = {chip: place for place, chip in enumerate(chips)}
    groups = [group.strip("{}").replace("->", ",").split(",") for group in split(target[1:-1])]
    return [tuple(at[int(chip)] for chip in group) for group in groups]


@dataclass(frozen=True)
class _Reader:
    module: Module
    computation: Computation
    chips: Sequence[int]
    parts: set[tuple[str, int]]
    loops: Mapping[str, tuple[Computation, Instruction]]

    def across(self, send: Instruction) -> Across:
        """What a `send` is, or is a part of."""
        attributes = _frontend(send)
        kind = _KINDS[attributes["_xla_megascale_transfer_type"]]
        groups = groups_of(attributes["_xla_megascale_target"], self.chips)
        source = send.operands[0]
        shape = self.computation.instructions[source].shapes[0]
        sent = _elements(self.computation, source)
        alone = Across(kind, sent * shape.item, shape.dtype, groups)
        if kind == "permute":
            return self.permuted(send, alone)
        if kind == "all_gather":
            received = sent * len(groups[0])
            return self.gathered(attributes, replace(alone, bytes=received * shape.item), received)
        if kind == "all_to_all":
            return alone
        before, earlier = self.before(source)
        after = list(self.after(attributes)) if kind == "all_reduce" else []
        if not before:
            return self.gathered(attributes, alone, sent) if after and self.amid_zeros(source) else alone
        whole, array = sum(each.reduced for each in before), before[0].array
        together = Across(kind, whole * array.item, array.dtype, groups, before[0].instruction)
        if kind == "reduce_scatter":
            return (
                self.joined(together, [*before, *earlier])
                if whole <= sent * self.size(before[0]) < 2 * whole
                else alone
            )
        if after:
            fits = sent < whole <= sum(each.gathered.elements for each in after)
            return self.joined(together, [*before, *earlier, *after]) if fits else alone
        filled = sum(each.array.elements for each in before)
        return self.joined(together, [*before, *earlier]) if shape.elements == filled else alone

    def gathered(self, attributes: Mapping[str, str], alone: Across, received: int) -> Across:
        """What is gathered inside of the slice after so many elements came from the others."""
        after = list(self.after(attributes))
        if after and sum(each.gathered.elements for each in after) == received * self.size(after[0]):
            array = after[0].gathered
            size = sum(each.gathered.bytes for each in after)
            return self.joined(Across(alone.kind, size, array.dtype, alone.groups, after[0].instruction), after)
        return alone

    def permuted(self, send: Instruction, alone: Across) -> Across:
        source = _whole(self.computation, send.operands[0])
        for each in self.computation.instructions.values():
            part = Part(self.computation, each)
            free = each.opcode in _PERMUTES and part.key not in self.parts
            if free and _whole(self.computation, each.operands[0]) == source:
                return self.joined(replace(alone, inside=each), [part])
        return alone

    def joined(self, across: Across, parts: Iterable[Part]) -> Across:
        self.parts.update(each.key for each in parts)
        return across

    def size(self, part: Part) -> int:
        """How many chips of the slice take part in a collective."""
        text = part.instruction.attributes.get("replica_groups", "")
        return len(parse_groups(text, self.module.num_partitions)[0])

    def before(self, name: str) -> tuple[list[Part], list[Part]]:
        """The reductions inside of the slice that an array is moved from. Where a loop hands it on from trip to trip,
        these are those of the trip before, and besides there are those before the loop."""
        found: list[Part] = []
        earlier: list[Part] = []
        seen: set[tuple[str, str, int]] = set()
        waiting = [(self.computation, name, 0, True)]
        while waiting:
            computation, name, result, counts = waiting.pop()
            instruction = computation.instructions[name]
            if (computation.name, name, result) in seen:
                continue
            seen.add((computation.name, name, result))
            inside = [replace(each, result=result) for each in self.within(computation, instruction, _REDUCES)]
            if inside:
                (found if counts else earlier).extend(inside)
            elif instruction.opcode == "get-tuple-element":
                element = int(instruction.attributes["index"])
                source = computation.instructions[instruction.operands[0]]
                if source.opcode == "parameter" and computation.name in self.loops:
                    around, loop = self.loops[computation.name]
                    start = around.instructions[loop.operands[0]]
                    waiting += [(around, each, 0, False) for each in start.operands[element : element + 1]]
                    waiting += [(computation, each, 0, counts) for each in _given(computation, element)]
                elif source.opcode == "while":
                    body = self.module.computations[source.attributes["body"].lstrip("%")]
                    waiting += [(body, each, 0, counts) for each in _given(body, element)]
                else:
                    waiting.append((computation, source.name, element, counts))
            elif instruction.opcode.removesuffix("-done") in _REDUCES:
                waiting.append((computation, instruction.operands[0], result, counts))
            elif self.moves(computation, instruction):
                waiting += [(computation, operand, 0, counts) for operand in instruction.operands]
        return found, earlier

    def after(self, attributes: Mapping[str, str]) -> Iterator[Part]:
        """The gathers inside of the slice that what comes back is moved to."""
        meeting = attributes.get("_xla_host_transfer_rendezvous")
        back = [each for each in self.computation.instructions.values() if each.opcode == "recv"]
        waiting = [each.name for each in back if _frontend(each).get("_xla_host_transfer_rendezvous") == meeting]
        seen: set[str] = set()
        while waiting:
            for user in self.computation.users[waiting.pop()]:
                if user.name in seen:
                    continue
                seen.add(user.name)
                found = list(self.within(self.computation, user, _GATHERS))
                if found:
                    yield from found
                elif user.opcode == "recv-done" or self.moves(self.computation, user):
                    waiting.append(user.name)

    def within(self, computation: Computation, instruction: Instruction, kinds: frozenset[str]) -> Iterator[Part]:
        """A collective of some kinds, by itself or in a fusion with moves."""
        if instruction.opcode.removesuffix("-start") in kinds:
            yield Part(computation, instruction)
        elif instruction.opcode == "fusion":
            body = self.body(instruction)
            inside = [each for each in body.instructions.values() if each.opcode in kinds]
            if all(each in inside or self.moves(body, each) for each in body.instructions.values()):
                yield from (Part(body, each) for each in inside)

    def moves(self, computation: Computation, instruction: Instruction) -> bool:
        """Whether an operation computes nothing of the arrays that it reads."""
        if instruction.opcode != "fusion":
            return _moves(instruction, computation)
        body = self.body(instruction)
        return all(self.moves(body, each) for each in body.instructions.values())

    def body(self, fusion: Instruction) -> Computation:
        return self.module.computations[fusion.attributes["calls"].lstrip("%")]

    def amid_zeros(self, name: str) -> bool:
        """Whether an array is made of shards in their places among zeros."""
        made = self.computation.instructions[_whole(self.computation, name)]
        if made.opcode in ("dynamic-update-slice", "pad"):
            return True
        if made.opcode == "fusion":
            body = self.body(made)
            if body.root.opcode in ("dynamic-update-slice", "pad"):
                return True
            joined = self.moves(self.computation, made)
            arrays = [each for each in made.operands if self.computation.instructions[each].shapes[0].dims]
            return joined and bool(arrays) and all(self.amid_zeros(each) for each in arrays)
        return False


def _loops(module: Module) -> dict[str, tuple[Computation, Instruction]]:
    """Of each body of a loop, by name, the loop and the computation that it is in."""
    found: dict[str, tuple[Computation, Instruction]] = {}
    for computation in module.computations.values():
        for each in computation.instructions.values():
            if each.opcode == "while":
                found[each.attributes["body"].lstrip("%")] = computation, each
    return found


def _given(body: Computation, element: int) -> tuple[str, ...]:
    """What a trip of a loop gives as an element of its state; nothing where it does not say."""
    return body.root.operands[element : element + 1] if body.root.opcode == "tuple" else ()


def _same(computation: Computation, name: str) -> Iterator[Instruction]:
    """An instruction, and those above it that give the same array in another layout or less filled up."""
    instruction = computation.instructions[name]
    yield instruction
    while instruction.opcode in _SAME_ARRAY or _FILLS_UP in instruction.attribute_text:
        instruction = computation.instructions[instruction.operands[0]]
        yield instruction


def _elements(computation: Computation, name: str) -> int:
    """The elements of an array without those that fill it up to whole tiles."""
    return min(instruction.shapes[0].elements for instruction in _same(computation, name))


def _whole(computation: Computation, name: str) -> str:
    """The first instruction that gives an array, however it is laid out later."""
    return [instruction.name for instruction in _same(computation, name)][-1]


def _moves(instruction: Instruction, computation: Computation) -> bool:
    of_numbers = all(not shape.dims or shape.dtype[0] in "sup" for shape in instruction.shapes)
    if instruction.opcode == "maximum":  # of arrays amid minus infinity: these one after the other
        parts = [computation.instructions[operand].opcode for operand in instruction.operands]
        return of_numbers or all(part in ("pad", "maximum") for part in parts)
    if instruction.opcode == "reduce":  # of a dim of one element
        return instruction.shapes[0].elements == computation.instructions[instruction.operands[0]].shapes[0].elements
    helps = any(mark in instruction.attribute_text for mark in (_FILLS_UP, _BEGINS))
    return instruction.opcode in _MOVES or of_numbers or helps


def _frontend(instruction: Instruction) -> dict[str, str]:
    """The attributes that the front end gave to an instruction."""
    parts = split(instruction.attributes.get("frontend_attributes", "{}")[1:-1])
    pairs = [part.partition("=") for part in parts]
    return {key: value.strip('"') for key, _, value in pairs}


def _numbers(text: str) -> list[int]:
    """`1,2` or `0:3`, both ends of which are meant."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        found.extend(range(int(first), int(last or first) + 1))
    return found
