"""Which elements stand where along each dim of a program: the orders of `ir.order`, followed from value to value.

A dim that the user named is an atom by its name. What merges, splits, repeats, tiles and stacks makes orders of several
atoms; everything else hands on those of its operands. Where two orders of one dim contradict each other there is a
*meeting*; where a reshape tears an axis apart there is a *tear*.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ir.graph import Graph, Node, Operand, Value
from ir.names import are_apart, is_derived, same_axis, unprimed
from ir.ops import Place, factors, op_of
from ir.order import Atom, Axis, Cut, Order, Part, contradict, cut, merged
from ir.types import Dim

Key = tuple[int, int]


@dataclass(frozen=True)
class Meeting:
    """Two orders of one dim that contradict each other. `known` is the node where the first was seen."""

    node: Node
    first: Order
    known: Node | None
    second: Order


@dataclass(frozen=True)
class Tear:
    """A reshape that leaves no dim with the places of an axis by themselves."""

    node: Node
    torn: tuple[Atom, ...]
    before: Order
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Swap:
    """A reshape whose result has the axes, or the sizes, of its operand in another order."""

    node: Node
    before: Order
    after: tuple[Dim, ...]
    named: bool


@dataclass(frozen=True)
class PartsMeet:
    """A sum of two parts of two arrays, which are cut alike and are not the same part."""

    node: Node
    first: Part
    second: Part


Found = Meeting | Tear | Swap | PartsMeet


def found(graph: Graph) -> Iterator[Found]:
    """What is wrong with the orders of the forward pass, in the order of the program. Two orders that meet nowhere, and
    that two dims of one name have, come last."""
    orders = _Orders()
    yield from orders.scope(graph)
    for each in orders.of_names:
        if orders.is_new(each.first, each.second):
            yield each


@dataclass
class _Orders:
    """Orders by value and position, and by the name of the dim that has them."""

    orders: dict[Key, Order] = field(default_factory=dict[Key, Order])
    named: dict[tuple[str, int], list[tuple[Order, Node]]] = field(
        default_factory=dict[tuple[str, int], list[tuple[Order, Node]]]
    )
    said: set[frozenset[Order]] = field(default_factory=set[frozenset[Order]])
    of_names: list[Meeting] = field(default_factory=list[Meeting])
    direct: set[int] = field(default_factory=set[int])
    """Values that are parts as they were cut, but for a sign, a cast, a broadcast or a bias."""

    def scope(self, graph: Graph) -> Iterator[Found]:
        for node in graph.nodes:
            if node.phase != "forward":
                continue
            op = op_of(node)
            if node.bodies:
                yield from self.body(node)
            elif op.regroups(node) and "along" in node.attrs:
                yield from self.reshape(node)
            else:
                yield from self.linked(node)
                for (result, position), order in op.arranged(node, self):
                    if isinstance(result, Value):
                        self.orders[result.id, position] = order
                        self.direct |= {result.id} if any(map(_is_part, order)) else set()
                if any(value.id in self.direct for value in node.value_inputs) and _leaves_parts(node):
                    self.direct.update(value.id for value in node.outputs)
            for value in node.outputs:
                for position, dim in enumerate(value.type.dims):
                    self.settle(node, value, position, dim)

    def __call__(self, operand: Operand, position: int) -> Order:
        """The order of a dim of an operand."""
        dim = operand.type.dims[position]
        if dim.size == 1:
            return ()
        known = self.orders.get((operand.id, position)) if isinstance(operand, Value) else None
        return known if known is not None else (_atom(operand, position),)

    def is_new(self, first: Order, second: Order, met: bool = False) -> bool:
        """Whether two orders contradict each other and have not done so before. Where they meet in an operation
        (`met`), the large steps of an axis contradict its small ones as well."""
        if frozenset((first, second)) in self.said:
            return False
        if not contradict(first, second) and not (met and _other_digits(first, second)):
            return False
        self.said.add(frozenset((first, second)))
        return True

    def body(self, node: Node) -> Iterator[Found]:
        op = op_of(node)
        for _, fed in op.body_operands(node):
            for outside, inside, stacked in fed:
                self.hand_on(outside, inside, int(stacked), 0)
        for body in node.bodies:
            yield from self.scope(body)
        for _, given in op.body_results(node):
            for inside, outside, stacked in given:
                self.hand_on(inside, outside, 0, int(stacked))

    def hand_on(self, source: Operand, target: Value, skipped: int, added: int) -> None:
        if not isinstance(source, Value):
            return
        for position in range(len(source.type.dims) - skipped):
            known = self.orders.get((source.id, position + skipped))
            if known is not None and position + added < len(target.type.dims):
                self.orders[target.id, position + added] = known

    def linked(self, node: Node) -> Iterator[Found]:
        """Dims that are the same dim have one order; operands that meet are compared."""
        together: dict[Key, list[Place]] = {}
        op = op_of(node)
        for first, second in op.links(node):
            if op.renames and not _same_name(first, second):
                continue
            if isinstance(second[0], Value):
                together.setdefault((second[0].id, second[1]), []).append(first)
        results = {value.id for value in node.outputs}
        for (identity, position), places in together.items():
            orders = [self(*place) for place in places if place[0].type.dims[place[1]].size != 1]
            if identity not in results:
                operand = next(o for o in node.inputs if isinstance(o, Value) and o.id == identity)
                orders.append(self(operand, position))
            orders = [order for order in orders if order]
            if not orders:
                continue
            if (
                op.is_elementwise
                and node.fn in ("add", "sub", "add_any")
                and self.direct.issuperset(place[0].id for place in places if isinstance(place[0], Value))
            ):
                parts = [order[0].key for order in orders if len(order) == 1]
                if (apart := _parts_apart([key for key in parts if isinstance(key, Part)])) is not None:
                    yield PartsMeet(node, *apart)
            for other in orders[1:]:
                if self.is_new(orders[0], other, met=True):
                    yield Meeting(node, orders[0], None, other)
                    break
            if identity in results:
                self.orders[identity, position] = max(orders, key=_telling)

    def reshape(self, node: Node) -> Iterator[Found]:
        operand, result = node.inputs[0], node.outputs[0]
        for left, right in factors(operand.type.shape, result.type.shape):
            before = merged([self(operand, position) for position in left])
            dims = tuple(result.type.dims[position] for position in right)
            sizes = tuple(dim.size for dim in dims)
            if _is_skew(operand, left, sizes):
                continue
            made = cut(before, sizes) if len(right) > 1 else Cut((before,))
            if torn := tuple(atom for atom in made.torn if _is_given(atom.name)):
                yield Tear(node, torn, before, sizes)
            elif (named := _swapped(before, dims)) is not None:
                yield Swap(node, before, dims, named)
            else:
                for position, order in zip(right, made.orders, strict=True):
                    if order is not None:
                        self.orders[result.id, position] = _labelled(order, result.type.dims[position])

    def settle(self, node: Node, value: Value, position: int, dim: Dim) -> None:
        """Where a dim with a name has an order of several atoms, all dims of that name have it."""
        order = self.orders.get((value.id, position))
        if order is None or dim.name is None:
            return
        own = _atom(value, position)
        if len(order) == 1 and order[0].step == 1 and order[0].name is None:
            if own.name is not None and not _is_part(order[0]):
                self.orders[value.id, position] = (own,)
            return
        if own.name is None or order == (own,):
            return
        if len(order) == 1 and order[0].step == 1:
            if not _is_given(order[0].name):
                self.orders[value.id, position] = (own,)
            return
        known = self.named.setdefault((unprimed(dim.name), dim.size), [])
        for other, where in [((own,), None), *known]:
            if contradict(other, order):
                self.of_names.append(Meeting(node, other, where, order))
                return
        if len(known) < 8 and all(order != other for other, _ in known):
            known.append((order, node))


def _is_skew(operand: Operand, left: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether a reshape moves each row one place further than the one before, as relative positions are made absolute:
    rows of one element more than there are rows become rows of one less."""
    before = [operand.type.shape[position] for position in left]
    return len(before) == 2 and before[1] == before[0] + 1 and list(sizes) == before[::-1]


def _parts_apart(parts: Sequence[Part]) -> tuple[Part, Part] | None:
    """Two parts of two arrays that have no place in common."""
    for i, second in enumerate(parts):
        for first in parts[:i]:
            alike = first.whole == second.whole and first.array != second.array
            if alike and are_apart(first.extent, second.extent):
                return first, second
    return None


def _other_digits(first: Order, second: Order) -> bool:
    """Whether two dims are the large steps of an axis and its small ones."""
    if len(first) != 1 or len(second) != 1:
        return False
    (one,), (other,) = first, second
    whole = isinstance(one.key, Axis) and one.key.size in (one.size, other.size)
    return one.key == other.key and isinstance(one.key, Axis) and one.step != other.step and not whole


def _same_name(first: Place, second: Place) -> bool:
    """Whether a rename leaves a dim the axis that it is."""
    names = [operand.type.dims[position].name for operand, position in (first, second)]
    return names[0] == names[1] or (None not in names and same_axis(str(names[0]), str(names[1])))


def _is_given(name: str | None) -> bool:
    return name is not None and not is_derived(name)


def _atom(operand: Operand, position: int) -> Atom:
    dim = operand.type.dims[position]
    if dim.name is not None and _is_given(dim.name):
        return Atom(Axis(unprimed(dim.name), dim.size), dim.size, label=dim.name)
    return Atom((operand.id if isinstance(operand, Value) else -1, position), dim.size, label=dim.name)


def _leaves_parts(node: Node) -> bool:
    op = op_of(node)
    return (op.is_elementwise and node.fn in ("add", "sub", "neg", "convert_element_type", "copy", "named")) or (
        op.renames or op.widens(node) or op.reorders(node)
    )


def _is_part(atom: Atom) -> bool:
    """Whether it is a slice: what meets it may name it, and it stays a part of what it was cut from."""
    return isinstance(atom.key, Part)


def _labelled(order: Order, dim: Dim) -> Order:
    """Digits that are a dim by themselves are called like the dim."""
    if len(order) != 1 or dim.name is None:
        return order
    (atom,) = order
    return (Atom(atom.key, atom.size, atom.step, atom.copies, dim.name),)


def _telling(order: Order) -> tuple[int, bool]:
    """How much an order says: of several that agree the longest is kept, and one of digits before one of a name."""
    return len(order), order[0].step != 1 or _is_part(order[0])


def _swapped(before: Order, dims: Sequence[Dim]) -> bool | None:
    """Whether a reshape has the axes of its operand in another order, by name (True) or by size alone (False)."""
    if len(before) != len(dims) or len({atom.key for atom in before}) < len(before):
        return None
    names = [atom.name for atom in before]
    after = [unprimed(dim.name) if dim.name is not None and _is_given(dim.name) else None for dim in dims]
    if (
        None not in names
        and None not in after
        and names != after
        and sorted(map(str, names)) == sorted(map(str, after))
    ):
        return True
    sizes, now = [atom.size for atom in before], [dim.size for dim in dims]
    named = any(_is_given(name) for name in names) and not any(
        a is not None and b is not None and same_axis(a, b) for a, b in zip(names, after, strict=True)
    )
    return False if sizes != now and sorted(sizes) == sorted(now) and named else None
