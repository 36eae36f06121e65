"""What changed from one graph to another, as a reviewer reads it: by names, lines and operations, never by numbers.

    - f32[batch=8] = map.add(x, contract:12)                    # model.py:14  computed once now
    + f32[mlp=64, embed=16] = all_gather(params.up) axis=embed mesh=[data]
    > f32[batch=8] = reduce.sum(map.mul:13) over=[embed=16]     # model.py:15

`-` is gone, `+` is new, `>` stands elsewhere; a `-` right above a `+` is one operation that changed. An operand is
shown by its path in the arguments, or by its operation and line. Layouts that changed are counted by name.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ir.analysis.matching import Meanings, bare, is_move, operation, pair
from ir.analysis.uses import Uses, live
from ir.graph import Constant, Graph, Node, Operand, Value
from ir.text.print import SOURCE_COLUMN, print_attributes, print_dim, print_type
from ir.types import Dim, TensorType

_UNCHANGED = "no changes"


@dataclass(frozen=True)
class Change:
    """One line.

    Attributes:
        mark: `-`, `+` or `>`.
        text: what is gone, new, or elsewhere.
        scope: which body it is in; empty for the graph itself.
        is_edit: whether the line is one of the two of an operation that changed.
    """

    mark: str
    text: str
    scope: str = ""
    phase: str = ""
    is_edit: bool = False


@dataclass
class Changes:
    """All differences. False where there are none."""

    lines: list[Change] = field(default_factory=list[Change])
    layouts: dict[tuple[str, str, str], list[str]] = field(default_factory=dict[tuple[str, str, str], list[str]])

    def __bool__(self) -> bool:
        return bool(self.lines or self.layouts)

    def text(self, before: str = "before", after: str = "after") -> str:
        """For people, with a newline at its end. `before` and `after` are what the graphs are called."""
        return "\n".join([f"--- {before}", f"+++ {after}", self._summary(), *self._body()]) + "\n"

    def _summary(self) -> str:
        marks = Counter("~" * line.is_edit + line.mark for line in self.lines)
        words = {"~-": "changed", "-": "removed", "+": "added", ">": "moved"}
        told = [f"{marks[mark]} {word}" for mark, word in words.items() if marks[mark]]
        if self.layouts:
            told.append(f"{sum(map(len, self.layouts.values()))} layouts changed")
        return ", ".join(told) or _UNCHANGED

    def _body(self) -> Iterator[str]:
        place: tuple[str, str] | None = None
        for line in self.lines:
            if (line.scope, line.phase) != place:
                place = line.scope, line.phase
                yield ""
                yield " ".join([f"-- {line.phase} --" if line.phase else "arguments and results", line.scope]).rstrip()
            yield f"{line.mark} {line.text}"
        if self.layouts:
            yield ""
            yield "layouts"
        for (name, old, new), values in self.layouts.items():
            count = "1 value" if len(values) == 1 else f"{len(values)} values"
            yield f"  {name}: {old} -> {new} in {count}, first: {values[0]}"


def changes(before: Graph, after: Graph) -> Changes:
    """The differences between two graphs."""
    meanings = Meanings()
    known: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for graph, values in zip((before, after), known, strict=True):
        meanings.graph(graph, values)
    comparison = _Comparison(known, (_Names(before), _Names(after)))
    comparison.graph(before, after, "")
    return comparison.found


class _Names:
    """How the values of one graph are called."""

    def __init__(self, graph: Graph) -> None:
        self.paths = {value.id: path for value, path in zip(graph.inputs, graph.input_paths, strict=False)}
        self.producer = Uses.of(graph).producer
        self.inputs = {
            value.id: f"{body.name}.{position}"
            for node in graph.walk()
            for body in node.bodies
            for position, value in enumerate(body.inputs)
        }
        self.inputs |= {value.id: f"input {position}" for position, value in enumerate(graph.inputs)}
        self.used = live(graph)

    def operand(self, operand: Operand) -> str:
        """`params.up`, `body.0`, `contract:12`, `0.5`."""
        if isinstance(operand, Constant):
            return operand.text
        if operand.id in self.producer:
            node = self.producer[operand.id]
            op = node.kind + (f".{node.fn}" if node.fn else "")
            result = f"[{node.outputs.index(operand)}]" if len(node.outputs) > 1 and operand in node.outputs else ""
            return op + result + (f":{node.source.line}" if node.source else "")
        return self.paths.get(operand.id) or self.inputs.get(operand.id, str(operand))

    def node(self, node: Node, note: str = "") -> str:
        """A node on one line; of bodies only their names."""
        op = node.kind + (f".{node.fn}" if node.fn else "")
        results = ", ".join(print_type(value.type) for value in node.outputs)
        line = f"{results} = " if results else ""
        line += f"{op}({', '.join(map(self.operand, node.inputs))}){print_attributes(node)}"
        line += "".join(f" {body.name} {{…}}" for body in node.bodies)
        margin = "  ".join(part for part in (f"# {node.source}" if node.source else "", note) if part)
        return f"{line:<{SOURCE_COLUMN - 4}}  {margin}" if margin else line


@dataclass
class _Comparison:
    known: tuple[dict[int, int], dict[int, int]]
    names: tuple[_Names, _Names]
    found: Changes = field(default_factory=Changes)
    same: dict[int, int] = field(default_factory=dict[int, int])

    def graph(self, before: Graph, after: Graph, scope: str) -> None:
        """Two graphs, or two bodies, that are one another's."""
        self.values("inputs", before, after, scope)
        self.nodes(before.nodes, after.nodes, scope)
        self.values("outputs", before, after, scope)
        if before.carried != after.carried:
            gone = [pair_ for pair_ in before.carried if pair_ not in after.carried]
            new = [pair_ for pair_ in after.carried if pair_ not in before.carried]
            for mark, pairs in (("-", gone), ("+", new)):
                for first, second in pairs:
                    self.add(mark, f"carried input {first} -> output {second}", scope)

    def values(self, side: str, before: Graph, after: Graph, scope: str) -> None:
        """Inputs, or outputs: by their paths, or by position where they have none."""
        first, second = ({key: each for key, each in _listed(graph, side)} for graph in (before, after))
        for key in dict.fromkeys((*first, *second)):
            old, new = first.get(key), second.get(key)
            if old is None or new is None or not self.equal(old, new, side):
                is_edit = old is not None and new is not None
                for mark, operand, names in (("-", old, self.names[0]), ("+", new, self.names[1])):
                    if operand is not None:
                        value = f" = {names.operand(operand)}" if side == "outputs" else ""
                        text = f"{side[:-1]} {key}: {print_type(operand.type)}{value}"
                        self.add(mark, text, scope, is_edit=is_edit)
            elif side == "inputs":
                self.layout(old.type, new.type, f"input {key}")
            if isinstance(old, Value) and isinstance(new, Value) and side == "inputs":
                self.same[old.id] = new.id

    def equal(self, old: Operand, new: Operand, side: str) -> bool:
        return bare(old.type) == bare(new.type) and (side == "inputs" or self.operands_equal([old], [new]))

    def nodes(self, before: Sequence[Node], after: Sequence[Node], scope: str) -> None:
        pairing = pair(before, after, *self.known)
        for a, b in pairing.pairs:
            self.same |= {o.id: n.id for o, n in zip(before[a].outputs, after[b].outputs, strict=False)}
        partners, kept = dict(pairing.pairs), {b: a for a, b in pairing.pairs}
        # What did not move divides both lists alike; between two of them, what is gone comes before what is new.
        fixed = [*(each for each in pairing.pairs if each not in pairing.moved), (len(before), len(after))]
        a = b = 0
        for next_a, next_b in fixed:
            for node in (before[i] for i in range(a, next_a) if i not in partners):
                self.add("-", self.names[0].node(node, self.reason(node)), scope, node.phase)
            for i in range(b, min(next_b + 1, len(after))):
                if i not in kept:
                    self.add("+", self.names[1].node(after[i]), scope, after[i].phase)
                else:
                    self.node(before[kept[i]], after[i], (kept[i], i) in pairing.moved, scope)
            a, b = next_a + 1, next_b + 1

    def reason(self, node: Node) -> str:
        """Why a node may be gone."""
        meant = {self.known[0][value.id] for value in node.outputs}
        if meant and meant <= set(self.known[1].values()) and not is_move(node):
            return "computed once now"
        return "unused" if not any(value.id in self.names[0].used for value in node.outputs) else ""

    def node(self, old: Node, new: Node, moved: bool, scope: str) -> None:
        """Two nodes that are one another's."""
        types_equal = [bare(v.type) for v in old.outputs] == [bare(v.type) for v in new.outputs]
        alike = (operation(old), old.phase) == (operation(new), new.phase)
        if not alike or not types_equal or not self.operands_equal(old.inputs, new.inputs):
            self.add("-", self.names[0].node(old), scope, old.phase, is_edit=True)
            self.add("+", self.names[1].node(new), scope, new.phase, is_edit=True)
        elif moved:
            self.add(">", self.names[1].node(new), scope, new.phase)
        if not is_move(new):
            for a, b in zip(old.outputs, new.outputs, strict=False):
                self.layout(a.type, b.type, self.names[1].operand(b))
        for a, b in zip(old.bodies, new.bodies, strict=False):
            where = f" ({new.source})" if new.source else ""
            self.graph(a, b, f"in {b.name} of {new.kind}.{new.fn}{where}")

    def operands_equal(self, old: Sequence[Operand], new: Sequence[Operand]) -> bool:
        """Whether the operands are the same values, however they were moved on the mesh."""
        if len(old) != len(new):
            return False
        return all(self.operand_equal(a, b) for a, b in zip(old, new, strict=True))

    def operand_equal(self, old: Operand, new: Operand) -> bool:
        if isinstance(old, Constant) or isinstance(new, Constant):
            return old == new
        if self.known[0].get(old.id) == self.known[1].get(new.id):
            return True
        old, new = (_unmoved(each, names) for each, names in zip((old, new), self.names, strict=True))
        return self.same.get(old.id) == new.id

    def layout(self, old: TensorType, new: TensorType, value: str) -> None:
        if len(old.dims) == len(new.dims):
            for a, b in zip(old.dims, new.dims, strict=True):
                if a.mesh != b.mesh:
                    self.laid(print_dim(Dim(a.name, 0)).partition("=")[0], _mesh(a.mesh), _mesh(b.mesh), value)
        if old.partial != new.partial:
            self.laid("pending reduction over", _listing(old.partial), _listing(new.partial), value)

    def laid(self, name: str, old: str, new: str, value: str) -> None:
        self.found.layouts.setdefault((name, old, new), []).append(value)

    def add(self, mark: str, text: str, scope: str, phase: str = "", is_edit: bool = False) -> None:
        self.found.lines.append(Change(mark, text, scope, phase, is_edit))


def _listed(graph: Graph, side: str) -> Iterator[tuple[str, Operand]]:
    values, paths = (graph.inputs, graph.input_paths) if side == "inputs" else (graph.outputs, graph.output_paths)
    for position, value in enumerate(values):
        yield (paths[position] if position < len(paths) and paths[position] else str(position)), value


def _unmoved(value: Value, names: _Names) -> Value:
    while (node := names.producer.get(value.id)) is not None and is_move(node):
        (operand,) = node.value_inputs
        value = operand
    return value


def _mesh(axes: tuple[str, ...]) -> str:
    return "@" + ",".join(axes) if axes else "replicated"


def _listing(axes: tuple[str, ...]) -> str:
    return ", ".join(axes) if axes else "nothing"
