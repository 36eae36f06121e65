"""That a partitioned graph, its moves and layouts forgotten, is the graph before partition: the same operations on the
same operands, for the same outputs.

Values are numbered by what they mean (value numbering): an operation on what its operands mean. A node that both graphs
have gets one number, however often it is there and wherever it stands; a move means its operand. So a partitioner may
compute a thing twice, or in another order, but nothing that the step does not compute.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field

from ir.analysis.excerpt import excerpt
from ir.analysis.matching import bare, is_move, operation
from ir.graph import Constant, Graph, Node, Operand
from ir.ops import op_of
from ir.ops.rule import OP
from ir.text.print import print_node, print_op, print_type
from passes.proof import errors


def same_meaning(placed: Graph, before: Graph) -> None:
    """Raises `NotProved` at the first node, or output, of `placed` that `before` does not have."""
    _same_interface(placed, before)
    numbers = _Numbers()
    wanted = numbers.graph(before)
    effects = +numbers.effects
    numbers.effects.clear()
    numbers.refuse = before
    found = numbers.graph(placed)
    for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
        if one != other:
            path = placed.output_paths[i] if i < len(placed.output_paths) else str(placed.outputs[i])
            raise errors.NotProved(
                placed.name, f"output {path}", "", errors.other_output(_made(before, before.outputs[i]))
            )
    for meaning, count in (effects | numbers.effects).items():
        if effects[meaning] != count or numbers.effects[meaning] != count:
            node = numbers.names[meaning]
            what = errors.other_effects(effects[meaning], numbers.effects[meaning])
            raise errors.NotProved(placed.name, print_op(node), str(node.source or ""), what)


def _same_interface(placed: Graph, before: Graph) -> None:
    sides = (
        ("inputs", tuple(value.type for value in before.inputs), tuple(value.type for value in placed.inputs)),
        ("outputs", tuple(each.type for each in before.outputs), tuple(each.type for each in placed.outputs)),
    )
    for side, first, second in sides:
        one, other = (", ".join(print_type(bare(type_)) for type_ in types) for types in (first, second))
        if one != other:
            raise errors.NotProved(placed.name, side, "", errors.other_interface(side, one, other))
    for side, first, second in (
        ("input paths", before.input_paths, placed.input_paths),
        ("output paths", before.output_paths, placed.output_paths),
        ("carried state", before.carried, placed.carried),
    ):
        if first != second:
            raise errors.NotProved(placed.name, side, "", errors.other_interface(side, str(first), str(second)))


@dataclass
class _Numbers:
    numbers: dict[Hashable, int] = field(default_factory=dict[Hashable, int])
    effects: Counter[int] = field(default_factory=Counter[int])
    names: dict[int, Node] = field(default_factory=dict[int, Node])
    refuse: Graph | None = None
    """Where it is set, a meaning that has no number yet is refuted: `refuse` is the graph that has all of them."""

    def of(self, key: Hashable) -> int:
        return self.numbers.setdefault(key, len(self.numbers))

    def graph(self, graph: Graph, place: Hashable = ()) -> tuple[int, ...]:
        """The meanings of the outputs."""
        known = {value.id: self.of(("input", place, i, bare(value.type))) for i, value in enumerate(graph.inputs)}
        for position, node in enumerate(graph.nodes):
            self.node(graph, position, node, known)
        return tuple(self.operand(operand, known) for operand in graph.outputs)

    def node(self, graph: Graph, position: int, node: Node, known: dict[int, int]) -> None:
        operands = tuple(self.operand(operand, known) for operand in node.inputs)
        if is_move(node):
            known[node.outputs[0].id] = operands[0]
            return
        # What only passes values on between devices is a matter of layouts.
        computing = () if op_of(node).goes_round else node.bodies
        bodies = tuple(self.graph(body, ("body", i)) for i, body in enumerate(computing))
        types = tuple(bare(value.type) for value in node.outputs)
        key = ("node", *operation(node), operands, types, bodies, _bound_with(node))
        if self.refuse is not None and key not in self.numbers:
            shown = excerpt(graph, position, [OP])
            what = errors.unknown_computation(_likely(self.refuse, node))
            raise errors.NotProved(graph.name, print_op(node), str(node.source or ""), what, shown)
        meaning = self.of(key)
        known |= {value.id: self.of((meaning, i)) for i, value in enumerate(node.outputs)}
        if op_of(node).has_effects or not node.outputs:
            self.effects[meaning] += 1
            self.names[meaning] = node

    def operand(self, operand: Operand, known: dict[int, int]) -> int:
        if isinstance(operand, Constant):
            return self.of(("constant", operand.text, operand.type))
        return known[operand.id]


def _bound_with(node: Node) -> Hashable:
    """What a traced node is bound with, which its text does not say in full: where a slice begins, for one."""
    return None if node.origin is None else (str(node.origin.primitive), id(node.origin.params))


def _likely(before: Graph, node: Node) -> str:
    """The node of the step before partition that makes the same values, or the first alike at the same line."""
    made = {value.id for value in node.outputs}
    alike = ""
    for other in before.walk():
        if print_op(other) != print_op(node):
            continue
        if made & {value.id for value in other.outputs}:
            return print_node(other)
        if not alike and other.source == node.source:
            alike = print_node(other)
    return alike


def _made(graph: Graph, operand: Operand) -> str:
    """The node that makes an output."""
    if isinstance(operand, Constant):
        return str(operand)
    for node in graph.nodes:
        if operand in node.outputs:
            return print_node(node)
    position = next((i for i, value in enumerate(graph.inputs) if value == operand), None)
    named = position is not None and position < len(graph.input_paths)
    return f"input {graph.input_paths[position]}" if named and position is not None else str(operand)
