"""The graph: a straight list of nodes in SSA form, with nested graphs as bodies of loops, branches and calls.

A graph is plain frozen data. `origin` fields, which remember the JAX primitive a node came from so that lowering is
exact, take no part in equality and are absent from a parsed graph.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ir import errors
from ir.names import is_made
from ir.types import Dim, TensorType

Phase = Literal["forward", "backward", "update"]
Attr = str | int | float | bool | tuple[int, ...] | tuple[str, ...] | tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """What a node produces or a graph takes: `%id`, unique in the whole graph with its bodies."""

    id: int
    type: TensorType

    def __str__(self) -> str:
        return f"%{self.id}"


@dataclass(frozen=True, slots=True)
class Constant:
    """A scalar written in place. `text` is its shortest round-trip form; `value` is what JAX held."""

    text: str
    type: TensorType
    value: Any = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.text}:{self.type}"


Operand = Value | Constant


@dataclass(frozen=True, slots=True)
class Source:
    """The user's line that a node comes from (file name without folders).

    `within` is the line of a library, such as a layer of Flax, that the user's line called.
    """

    file: str
    line: int
    path: str = field(default="", compare=False, repr=False)
    within: "Source | None" = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def spot(self) -> tuple[str, int, str]:
        """What tells lines apart: a line of the user's may run many lines of a library."""
        return self.file, self.line, str(self.within or "")


@dataclass(frozen=True, slots=True)
class Origin:
    """The JAX equation behind a node: what lowering binds again.

    `own_info` is JAX's source info of the equation, `caller_info` that of the call around where it was inlined.
    """

    primitive: Any
    params: Mapping[str, Any]
    context: Any = None
    own_info: Any = None
    caller_info: Any = None

    @property
    def source_info(self) -> Any:
        """The equation's own line, with its name stack below the caller's."""
        if self.caller_info is None:
            return self.own_info
        return self.own_info.replace(name_stack=self.caller_info.name_stack + self.own_info.name_stack)


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `kind` is one of `ir.ops`; `fn` says which member of the kind (`add`, `sum`, `scan`, …)."""

    kind: str
    fn: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Value, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict[str, Attr])
    bodies: tuple["Graph", ...] = ()
    phase: Phase = "forward"
    source: Source | None = None
    origin: Origin | None = field(default=None, compare=False, repr=False)

    def names(self, key: str) -> tuple[str, ...]:
        """The names of the dimensions listed under the attribute `key`, those that the step made itself left out; ()
        where it is absent."""
        return tuple(dim.name for dim in self.dims(key) if dim.name and not is_made(dim.name))

    def dims(self, key: str) -> tuple[Dim, ...]:
        """The dimensions listed under the attribute `key`; () where it is absent."""
        listed = self.attrs.get(key, ())
        return tuple(dim for dim in listed if isinstance(dim, Dim)) if isinstance(listed, tuple) else ()

    def words(self, key: str) -> tuple[str, ...]:
        """The words listed under the attribute `key`, such as mesh axes; () where it is absent."""
        listed = self.attrs.get(key, ())
        return tuple(word for word in listed if isinstance(word, str)) if isinstance(listed, tuple) else ()

    def count(self, key: str, default: int | None = None) -> int:
        """The whole number under the attribute `key`, such as a loop's trips.

        Raises KeyError where it is absent and has no default, ValueError where it is no whole number.
        """
        number = self.attrs[key] if default is None else self.attrs.get(key, default)
        if not isinstance(number, int) or isinstance(number, bool):
            raise errors.no_count(f"{self.kind}.{self.fn}" if self.fn else self.kind, key, number)
        return number

    @property
    def value_inputs(self) -> tuple[Value, ...]:
        return tuple(operand for operand in self.inputs if isinstance(operand, Value))


@dataclass(frozen=True, slots=True)
class Graph:
    """Inputs, nodes, outputs. `input_paths` and `output_paths` say where values stand in the arguments and the result.

    `carried` pairs the positions of inputs and outputs that are the same piece of state before and after the step.
    """

    name: str
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Operand, ...]
    input_paths: tuple[str, ...] = ()
    output_paths: tuple[str, ...] = ()
    carried: tuple[tuple[int, int], ...] = ()
    trees: Any = field(default=None, compare=False, repr=False)

    def with_nodes(self, nodes: tuple[Node, ...]) -> "Graph":
        return replace(self, nodes=nodes)

    def walk(self) -> Iterator[Node]:
        """Every node, bodies included, in order; a node comes before those of its bodies."""
        for node in self.nodes:
            yield node
            for body in node.bodies:
                yield from body.walk()

    def axis_sizes(self) -> dict[str, int]:
        """Every name that a plan may speak of, with its largest size, in order of first appearance."""
        sizes: dict[str, int] = {}
        for value in self.values():
            for dim in value.type.dims:
                if dim.name is not None and not is_made(dim.name):
                    sizes[dim.name] = max(sizes.get(dim.name, 0), dim.size)
        return sizes

    def values(self) -> Iterator[Value]:
        """Every value, bodies included: inputs first, then in order of definition."""
        yield from self.inputs
        for node in self.nodes:
            for body in node.bodies:
                yield from body.values()
            yield from node.outputs
