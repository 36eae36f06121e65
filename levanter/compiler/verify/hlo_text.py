"""Reads the text form of an XLA module into plain records.

An HLO module is a list of computations, a computation is a list of instructions in SSA form, and every instruction is
one line: `%name = shape opcode(operands), key=value, …`. The reader splits a line only where a bracket or a string
says so, and knows nothing about what the opcodes mean, but for one: an element of a tuple is either an instruction of
its own, `%e = shape get-tuple-element(%t), index=1`, or only its reader's operand `%t#1`, as XLA writes it since
jaxlib 0.12. The short form is read as the instruction it stands for, so that a module says the same in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from levanter.compiler.verify.errors import unreadable_hlo

_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[()\[\]{},]')
_COMMENT = re.compile(r"/\*.*?\*/")
_ARRAY = re.compile(r"^([a-z][a-z0-9]*)\[([^\]]*)\]")
_NUMBERED = re.compile(r"^(\d+) (.*)$")
_FIELD = re.compile(r"(\w+)=(\d+)")
_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")


@dataclass(frozen=True)
class Shape:
    """The type of an array value: element type and dimensions, this device's part of it."""

    dtype: str
    dims: tuple[int, ...]

    @property
    def elements(self) -> int:
        count = 1
        for dim in self.dims:
            count *= dim
        return count

    @property
    def item(self) -> int:
        """Bytes of an element; 1 where it has fewer bits."""
        return max(1, _bits(self.dtype) // 8)

    @property
    def bytes(self) -> int:
        return (self.elements * _bits(self.dtype) + 7) // 8


@dataclass(frozen=True)
class Instruction:
    """One line of a computation. `operands` are names without `%`; `argument` is the raw text between the parens."""

    name: str
    type_text: str
    opcode: str
    argument: str
    attribute_text: str
    is_root: bool

    @property
    def is_tuple(self) -> bool:
        return self.type_text.startswith("(")

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The arrays of the result, nested tuples flattened."""
        return tuple(_shapes(self.type_text[1:-1] if self.is_tuple else self.type_text))

    @cached_property
    def operands(self) -> tuple[str, ...]:
        if self.opcode in ("constant", "parameter", "iota"):
            return ()
        return tuple(part.split()[-1].lstrip("%") for part in split(self.argument))

    @cached_property
    def attributes(self) -> Mapping[str, str]:
        """`key=value` pairs. The mesh form of `replica_groups` holds a comma, so its second half is put back."""
        pairs: dict[str, str] = {}
        for part in split(self.attribute_text):
            key, equals, value = part.partition("=")
            if equals and key == "device_ids" and "replica_groups" in pairs:
                pairs["replica_groups"] += f", {part}"
            else:
                pairs[key] = value
        return pairs

    @cached_property
    def op_name(self) -> str:
        found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.attribute_text)
        return found.group(1) if found else ""


@dataclass(frozen=True)
class Computation:
    """Instructions by name, in program order."""

    name: str
    instructions: Mapping[str, Instruction]

    @cached_property
    def users(self) -> Mapping[str, tuple[Instruction, ...]]:
        """For each instruction's name, the instructions that read it."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                found[operand].append(instruction)
        return {name: tuple(readers) for name, readers in found.items()}

    @cached_property
    def root(self) -> Instruction:
        return next(i for i in self.instructions.values() if i.is_root)

    def parameter(self, number: int) -> Instruction | None:
        """The instruction of the parameter `number`, or None when the computation does not read it."""
        wanted = str(number)
        return next((i for i in self.instructions.values() if i.opcode == "parameter" and i.argument == wanted), None)


@dataclass(frozen=True)
class Module:
    """A parsed module: its computations, which one is the entry, and where each instruction came from."""

    computations: Mapping[str, Computation]
    entry: str
    num_partitions: int
    tables: Mapping[str, Mapping[int, str]] = field(repr=False)

    def frames(self, instruction: Instruction) -> list[tuple[str, int]]:
        """The Python frames (file, line) that made an instruction, innermost first; empty when not recorded."""
        text = instruction.attribute_text
        found = re.search(r"stack_frame_id=(\d+)", text)
        if found:
            return self._walk(int(found.group(1)))
        file, line = re.search(r'source_file="([^"]*)"', text), re.search(r"source_line=(\d+)", text)
        return [(file.group(1), int(line.group(1)))] if file and line else []

    def _walk(self, frame: int) -> list[tuple[str, int]]:
        stack, locations, files = self.tables["StackFrames"], self.tables["FileLocations"], self.tables["FileNames"]
        # XLA prints parents counted from one (so that frame 1, which has none, is its own parent) or from zero.
        shift = 1 if _fields(stack.get(1, "")).get("parent_frame_id") == 1 else 0
        frames: list[tuple[str, int]] = []
        while frame in stack and len(frames) <= len(stack):
            entry = _fields(stack[frame])
            location = _fields(locations.get(entry.get("file_location_id", 0), ""))
            file = files.get(location.get("file_name_id", 0), "").strip('"')
            if file:
                frames.append((file, location.get("line", 0)))
            frame = entry.get("parent_frame_id", 0) - shift
        return frames


def parse(text: str) -> Module:
    """Reads a whole module.

    Raises:
        WorkFailed: a line is not what this reader expects of HLO.
    """
    computations: dict[str, Computation] = {}
    tables: dict[str, dict[int, str]] = {name: {} for name in _TABLES}
    entry, name = "", ""
    table: dict[int, str] | None = None
    body: dict[str, Instruction] | None = None
    for line in _joined(text):
        if body is not None:
            if line.startswith("}"):
                computations[name] = Computation(name, body)
                body = None
            elif line.strip():
                instruction = parse_instruction(line)
                for operand in instruction.operands:
                    _spell_out(operand, body, line)
                body[instruction.name] = instruction
        elif line.strip() in _TABLES:
            table = tables[line.strip()]
        elif (numbered := _NUMBERED.match(line)) and table is not None:
            table[int(numbered.group(1))] = numbered.group(2)
        elif line.rstrip().endswith("{") and not line.startswith("HloModule"):
            words = line.removeprefix("ENTRY ").split()
            name = words[0].lstrip("%")
            body = {}
            entry = name if line.startswith("ENTRY ") else entry
    if not entry:
        raise unreadable_hlo(text[:80], "no ENTRY computation")
    partitions = re.search(r"\bnum_partitions=(\d+)", text.partition("\n")[0])
    return Module(computations, entry, int(partitions.group(1)) if partitions else 1, tables)


def _joined(text: str) -> Iterator[str]:
    """The lines of a module. An instruction that stands on several, as a kernel with a text of its own does, is one.

    All lines of a computation but the last are indented; a closing bracket alone ends it.
    """
    waiting: str | None = None
    for line in text.splitlines():
        ends = line.startswith("}") and not line.startswith("}}")
        if waiting is not None and not ends and not line.startswith((" ", "\t")) and line.strip():
            waiting += line
            continue
        if waiting is not None:
            yield waiting
            waiting = None
        if line.startswith("  ") and " = " in line:
            waiting = line
        else:
            yield line
    if waiting is not None:
        yield waiting


def parse_instruction(line: str) -> Instruction:
    """Reads one `[ROOT] %name = shape opcode(operands), attributes` line."""
    text = _COMMENT.sub("", line).strip()
    is_root = text.startswith("ROOT ")
    name, equals, rest = text.removeprefix("ROOT ").partition(" = ")
    if not equals:
        raise unreadable_hlo(line, "no ` = `")
    end = _closing(rest, 0, line) + 1 if rest.startswith("(") else rest.find(" ")
    type_text, rest = rest[:end], rest[end:].strip()
    opcode, paren, _ = rest.partition("(")
    if not paren:
        raise unreadable_hlo(line, "no operands")
    close = _closing(rest, len(opcode), line)
    argument, attributes = rest[len(opcode) + 1 : close], rest[close + 1 :].lstrip(", ")
    return Instruction(name.lstrip("%"), type_text, opcode, argument, attributes, is_root)


def _spell_out(operand: str, body: dict[str, Instruction], line: str) -> None:
    """Puts the `get-tuple-element` that an operand `t#1` stands for (of a nested tuple: `t#1#0`) into the computation,
    under that name."""
    of, mark, index = operand.rpartition("#")
    if not mark or operand in body:
        return
    _spell_out(of, body, line)
    elements = split(body[of].type_text[1:-1]) if of in body and body[of].is_tuple else []
    if not index.isdecimal() or int(index) >= len(elements):
        raise unreadable_hlo(line, f"`%{operand}` is not an element of a tuple above it")
    body[operand] = Instruction(
        operand, elements[int(index)], "get-tuple-element", f"%{of}", f"index={index}", is_root=False
    )


def split(text: str) -> list[str]:
    """The parts of `text` between the commas that no bracket and no string holds."""
    parts, start, depth = [], 0, 0
    for token in _STRUCTURE.finditer(text):
        mark = token.group()
        if mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
        elif mark == "," and depth == 0:
            parts.append(text[start : token.start()].strip())
            start = token.end()
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _closing(text: str, start: int, line: str) -> int:
    """The position of the bracket that closes the one at `start`."""
    depth = 0
    for token in _STRUCTURE.finditer(text, start):
        if token.group() in "([{":
            depth += 1
        elif token.group() in ")]}":
            depth -= 1
            if depth == 0:
                return token.start()
    raise unreadable_hlo(line, "an open bracket")


def _shapes(text: str) -> Iterator[Shape]:
    """The array shapes in `text`, nested tuples flattened; tokens and other types that hold no data are left out."""
    for part in split(text):
        if part.startswith("("):
            yield from _shapes(part[1:-1])
        elif found := _ARRAY.match(part):
            dims = found.group(2)
            sizes = tuple(int(dim.lstrip("<=")) for dim in dims.split(",")) if dims else ()
            yield Shape(found.group(1), sizes)


def _bits(dtype: str) -> int:
    if dtype == "pred":
        return 8
    digits = re.search(r"\d+", dtype)
    return int(digits.group()) if digits else 0


def _fields(text: str) -> dict[str, int]:
    return {key: int(value) for key, value in _FIELD.findall(text)}
