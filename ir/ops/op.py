"""What an op kind is: one class per kind, which holds all that the library knows about it.

A kind is defined by names, never by dimension numbers. The verifier, checker, planner, partitioner and lowering ask
the op of a node (`ir.ops.op_of`); what a kind has nothing to say about keeps the answer given here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ir.graph import Graph, Node, Operand, Value
from ir.names import is_made, same_axis
from ir.ops.padding import Filling
from ir.ops.rule import Expected, Fault, has, result_faults
from ir.ops.spread import Spread
from ir.order import Order
from ir.ring import in_ring_node
from ir.shards import Shards, bind_primitive
from ir.types import SUM, Dim

Names = tuple[str, ...]
Place = tuple[Operand, int]
"""A dim: a value, and the position of the dim."""
OrderOf = Callable[[Operand, int], Order]
"""The order of the elements along a dim of an operand."""
Sent = tuple[str, int]
"""A collective as a program has it: its kind, and the bytes of a group (before reducing, after gathering)."""
Passing = Callable[[Sequence[Any]], Sequence[Any]]
"""What passes arrays on to the next device: of those of this device those of the one before."""
Feed = tuple[Operand, Value, bool]
"""What crosses the border of a body: (outside, inside, scanned over); for results (inside, outside, stacked)."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Two names that meet in a node. `operands` are the positions of what carries them (of a branch: which result,
    which body); `size` is that of both dims, None where they differ."""

    first: str
    second: str
    size: int | None
    rule: str
    operands: tuple[int, int]


class Op(ABC):
    """One kind.

    Attributes:
        kind: its name in a graph and in the text.
        attributes: the attributes that a node of it may have.
        meetings: by the code of a mismatch, how it is worded; `{pairs}`, `{first}`, `{second}`, `{op}` and `{axes}`
            are filled in.
        fusible: XLA computes it in place, without a round trip to memory.
        fuses_operands: what it reads is computed on the way, even if it is not fused itself.
        structured: its bodies are fed by its operands and give its results, dim by dim.
        sealed: its bodies are the user's word, which passes read and leave as it is.
        goes_round: its bodies only pass values on between devices while it computes (see `rounds`).
        communicates: it sends between devices what the plan says must move.
        slices_shards: it keeps a part of what each device has, and sends nothing.
        waits: it gives its first operand on when its second one is there.
        completes_sums: it pays a pending reduction.
        crossings: how often each byte crosses the network, where a gather is once.
        gathers: each device gets the shards of all others.
        scatters: it is a sum of which each device keeps its shard.
        exchanges: each device sends a part of its shard to each other one.
        passes_on: each device sends its whole shard to one other.
        one_way: all devices send it in the same direction.
        renames: its result is its operand under other names.
        understood: whether there is a rule for it; without one, its operands are replicated and its names unknown.
        has_effects: it may do more than give its results, so it is neither dropped nor merged.
        is_elementwise: each element of the result depends on the same element of each operand.
        multiplies: it multiplies two operands and sums over names that both have.
        counts: it numbers the places along a dim.
        factorizes: it is a function of whole matrices.
        holds_array: its result is an array that the step closed over.
        keeps_places: each dim of an operand of the result's rank is the dim at the same position of the result.
        repeats_places: it may repeat one place of an axis along that axis.
        stays_proportional: its result grows in proportion to its operand, for every function of the kind.
        always_computes: its result is never what is stored, whatever it is made from.
        placed_by_operands: it works where its operands are, not where its result is to be.
        reads_whole_parameters: a stored operand is gathered for it, for as long as it runs.
        writes_into: its result is its first operand, changed in places: in its memory, where nothing else reads that.
        picks: of its first operand the result has what indices say.
        picks_by_indices: its second operand are indices along the dims that it lists as `along`.
        accumulates: each place of its result is made from the places of its operand up to there.
        scattered: the kind that does the same and leaves each device one shard of the result; empty where none does.
        runs_once: its body runs exactly once, in place.
        shares_trips: each device makes trips of its own, so that nothing in its body is sharded or gathered.
        adds_in_order: it is a sum whose order does not depend on the devices that share it.
        pads: dims of its operands and results may be longer than they are meant to be (`passes.pad_axes`).
        same_bits_on_shards: a shard of its result has the bits that the whole result has there, for shards of any size.
    """

    kind: ClassVar[str]
    attributes: ClassVar[frozenset[str]] = frozenset()
    meetings: ClassVar[Mapping[str, str]] = {}

    fusible: ClassVar[bool] = False
    fuses_operands: ClassVar[bool] = False
    structured: ClassVar[bool] = False
    sealed: ClassVar[bool] = False
    goes_round: ClassVar[bool] = False
    communicates: ClassVar[bool] = False
    slices_shards: ClassVar[bool] = False
    waits: ClassVar[bool] = False
    completes_sums: ClassVar[bool] = False
    crossings: ClassVar[float] = 0.0
    gathers: ClassVar[bool] = False
    scatters: ClassVar[bool] = False
    exchanges: ClassVar[bool] = False
    passes_on: ClassVar[bool] = False
    one_way: ClassVar[bool] = False
    renames: ClassVar[bool] = False
    understood: ClassVar[bool] = True
    has_effects: ClassVar[bool] = False
    is_elementwise: ClassVar[bool] = False
    multiplies: ClassVar[bool] = False
    counts: ClassVar[bool] = False
    factorizes: ClassVar[bool] = False
    holds_array: ClassVar[bool] = False
    keeps_places: ClassVar[bool] = False
    repeats_places: ClassVar[bool] = False
    stays_proportional: ClassVar[bool] = False
    always_computes: ClassVar[bool] = False
    placed_by_operands: ClassVar[bool] = False
    reads_whole_parameters: ClassVar[bool] = False
    writes_into: ClassVar[bool] = False
    picks: ClassVar[bool] = False
    picks_by_indices: ClassVar[bool] = False
    accumulates: ClassVar[bool] = False
    scattered: ClassVar[str] = ""
    runs_once: ClassVar[bool] = False
    shares_trips: ClassVar[bool] = False
    adds_in_order: ClassVar[bool] = False
    pads: ClassVar[bool] = False
    same_bits_on_shards: ClassVar[bool] = False

    # --- types ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def results(self, node: Node) -> Sequence[Expected]:
        """The types that the rule gives for the operands, attributes and bodies of a node, as far as they tell.

        Raises `Broken` where they do not fit one another.
        """

    def faults(self, node: Node) -> Iterator[Fault]:
        """What is wrong with a node: how its results differ from `results`, or why there are none."""
        return result_faults(node, self.attributes, self.results, self.repaired)

    def repaired(self, node: Node, key: str) -> Node:
        """The node with a list of dims that may be right under `key`, so that a message can say what the rule would
        give: here without those that no operand and no result has."""
        every = [dim for each in (*node.inputs, *node.outputs) for dim in each.type.dims]
        kept = tuple(dim for dim in node.dims(key) if has(every, dim))
        return replace(node, attrs={**node.attrs, key: kept})

    def spread(self, node: Node) -> Sequence[Spread] | None:
        """How the results are laid out when each device runs the op on what it has of the operands, as their types say.

        Dims that no operand has, and that a device can make any part of, are as the results' own types say. None where
        the kind has no rule: what the types say is then an assumption.

        Raises `Misplaced` where that would not be the op.
        """
        return None

    # --- names ----------------------------------------------------------------------------------------------------

    def mismatches(self, node: Node) -> Iterator[Mismatch]:
        """Pairs of names that meet and should be one."""
        return iter(())

    def reduced(self, node: Node) -> Names:
        """Names over which the result is a sum (or max, …) of shards: sharded, they leave it partial."""
        return ()

    def reduced_in(self, node: Node, result: Value) -> Names:
        """Those of `reduced` over which one result is a sum."""
        return self.reduced(node)

    def blocked(self, node: Node) -> Names:
        """Names that must be replicated."""
        return ()

    def replicated(self, node: Node) -> Names:
        """All names that must be replicated for shards of the operands to give shards of the results: those that the
        kind blocks, and those whose dims do not stand at one place on both sides."""
        return tuple(dict.fromkeys((*self.blocked(node), *self._unaligned(node))))

    def _unaligned(self, node: Node) -> Iterator[str]:
        if self.renames:
            return
        for (value, i), (other, j) in self.links(node):
            a, b = value.type.dims[i].name, other.type.dims[j].name
            if a != b:
                yield from (name for name in (a, b) if name is not None)
        if self.is_elementwise or node.bodies:
            return
        for value in (*node.value_inputs, *node.outputs):
            names = value.type.names
            if len(set(names)) < len(names):  # only the first of two is sharded
                yield from (name for name in names if names.count(name) > 1)
        if self.keeps_places and not self.picks_by_indices:
            for result in node.outputs:
                for operand in node.value_inputs:
                    if len(operand.type.dims) == len(result.type.dims):
                        for a, b in zip(operand.type.dims, result.type.dims, strict=True):
                            if a.size != b.size:
                                yield from (dim.name for dim in (a, b) if dim.name is not None)

    def padding(self, node: Node, names: Collection[str]) -> Sequence[Filling] | None:
        """What must stand in the padding of each operand where these names are padded, so that what is no padding is
        what it would be without. None where the kind cannot do with padding: what may be sharded and is not summed over
        can, as the places of a shard do not depend on those of another."""
        whole = {*self.replicated(node), *self.reduced(node)}
        nothing: Filling = {}
        return None if not self.pads or whole & set(names) else [nothing] * len(node.inputs)

    def padded(self, node: Node, before: Node) -> Mapping[str, Any]:
        """The parameters of its primitive between operands and results some of whose dims are padded.

        Args:
            before: the node without the padding.
        """
        return self.local(node, dict(params_of(node)), Shards({}))

    def scanned(self, node: Node) -> Names:
        """Names of which each trip of a loop reads one slice."""
        return ()

    def ends(self, node: Node, mismatch: Mismatch) -> tuple[Operand, Operand]:
        """The two values that carry the two names of a mismatch."""
        first, second = mismatch.operands
        return node.inputs[first], node.inputs[second]

    def relabels(self, node: Node) -> bool:
        """Whether the array of the result is that of the operand, and only its names are new."""
        return self.renames

    def links(self, node: Node) -> Iterator[tuple[Place, Place]]:
        """Pairs of dims of operands and results (and of bodies) that are the same dim, by position: the way of dims
        that have no name to go by. A traced node remembers its primitive, which says so exactly; one that was read back
        from text is matched by names and sizes in order."""
        if node.bodies:
            yield from self._crossing(node)
        elif self.keeps_places:
            for i, result in enumerate(node.outputs):
                operands = node.inputs if len(node.outputs) == 1 else node.inputs[i : i + 1] or node.inputs[:1]
                for operand in operands:
                    if len(operand.type.dims) == len(result.type.dims):
                        yield from paired(operand, range(len(operand.type.dims)), result)
        elif node.outputs and node.inputs and (targets := self.targets(node)) is not None:
            yield from paired(node.inputs[0], targets, node.outputs[0])

    def targets(self, node: Node) -> Sequence[int | None] | None:
        """For each dim of the first operand its place in the result; None for a kind that keeps no dims by position."""
        return None

    def _crossing(self, node: Node) -> Iterator[tuple[Place, Place]]:
        for _, fed in self.body_operands(node):
            for outside, inside, stacked in fed:
                yield from _shifted(outside, inside, int(stacked))
        for _, given in self.body_results(node):
            for inside, outside, stacked in given:
                yield from _shifted(outside, inside, int(stacked))
        for before, after in self.carries(node):
            yield from _shifted(after, before, 0)

    def arranged(self, node: Node, order: OrderOf) -> Iterator[tuple[Place, Order]]:
        """Dims of the results whose elements stand in another order than those of the operand's dims that they are."""
        return iter(())

    # --- what it does -----------------------------------------------------------------------------------------------

    @property
    def moves_data_only(self) -> bool:
        """Whether it only brings its operand to another place on the mesh: the value stays what it is."""
        return self.communicates or self.slices_shards or self.waits

    def keeps_elements(self, node: Node) -> bool:
        """Whether the result is a function of the operands element by element, up to the order of dims and dims of
        size 1: what is made of stored values alone may be stored like them."""
        return False

    def is_operand(self, node: Node) -> bool:
        """Whether the result has the elements of the operand in the same order: the same memory."""
        return self.renames

    def long_parts(self, node: Node) -> int:
        """How many arrays a compiler holds for several readers of an elementwise result, rather than that each computes
        it anew: those of the steps that take long."""
        return 0

    def sums(self, node: Node) -> bool:
        """Whether the result is a sum over names, and nothing but a sum."""
        return False

    def transposes(self, node: Node) -> bool:
        """Whether the result has the dims of the operand in another order."""
        return False

    def reorders(self, node: Node) -> bool:
        """Whether the result has the elements of the operand in another order, or without dims of size 1, and every
        dim is still a dim."""
        return False

    def joins(self, node: Node) -> bool:
        """Whether the result has the operands one after the other."""
        return False

    def widens(self, node: Node) -> bool:
        """Whether the result is the operand, repeated or with more dims of size 1."""
        return False

    def regroups(self, node: Node) -> bool:
        """Whether dims are merged or split."""
        return False

    def lookups(self, node: Node) -> Iterator[tuple[str, Operand]]:
        """(name, indices) of an axis that is looked up by indices, where it is one alone."""
        return iter(())

    def bound(self, node: Node, params: Mapping[str, Any], shards: Mapping[str, int]) -> Mapping[str, Any]:
        """The parameters that its primitive is bound with in a placed graph; `shards` is the size of each mesh axis."""
        return params

    def only_groups(self, node: Node) -> bool:
        """Whether its body may as well stand in its place."""
        return False

    def is_whole(self, node: Node) -> bool:
        """Whether no device can run it on shards alone, even with all its operands replicated."""
        return False

    def reduction(self, node: Node) -> str:
        """By what shards are reduced to the result: one of `ir.types.REDUCTIONS`."""
        return SUM

    def bind(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """The results on one device, of its shards of the operands, which are placed as their types say."""
        assert node.origin is not None
        return bind_primitive(node, arrays, self.local(node, dict(node.origin.params), shards))

    def local(self, node: Node, params: dict[str, Any], shards: Shards) -> Mapping[str, Any]:
        """The parameters that its primitive is bound with on shards: those with sizes in them are other ones."""
        return params

    def sends(self, node: Node, sizes: Mapping[str, int]) -> Sequence[Sent]:
        """What a node that communicates is in the program of one device. `sizes` is that of each mesh axis."""
        return [(node.kind, node.count("bytes"))]

    def trips(self, node: Node, devices: int) -> float:
        """How often a device runs its bodies, where the bodies run `trips` times in all."""
        return node.count("trips", 1)

    def held(self, node: Node) -> Sequence[Sequence[Dim]]:
        """The dims of each array of 32 bits that is held while the node is computed, where no kernel does without."""
        return ()

    def by_kernel(self, node: Node, kernel: str) -> Names | None:
        """The names that must be replicated for a kernel of this name (`Chip.kernel`) to compute it; None where it does
        not."""
        return None

    def kernel_flops(self, node: Node, kernel: str) -> int:
        """Floating-point operations of the whole op where that kernel computes it."""
        return self.flops(node)

    def kernels(self, node: Node, kernel: str) -> int:
        """In how many operations it is computed: with a kernel of this name, or where it is empty by a compiler."""
        return 1

    def spilled(self, node: Node) -> int:
        """Bytes that it writes to memory and reads again on the way, in the whole op, where no kernel does without."""
        return 0

    def by_rows(self, node: Node) -> Sequence[Value]:
        """The operands and results that a kernel takes and gives row by row and that are kept so: their last dim is
        innermost. Attention has one where the chip's kernel computes it (`by_kernel`)."""
        return ()

    def by_row(self, node: Node) -> bool:
        """Whether it reads or writes rows of its first operand one by one, so that each must be whole: the last dim
        innermost."""
        return False

    def flops(self, node: Node) -> int:
        """Floating-point operations of the whole op."""
        return 0

    def flops_in_tiles(self, node: Node) -> float:
        """Those that XLA for TPUs makes of it, what it computes and leaves out again too."""
        return self.flops(node)

    def flops_again(self, node: Node) -> int:
        """Those of them that make once more what an op of the forward pass has made."""
        return 0

    # --- values that go round between devices while it computes -----------------------------------------------------

    def rounds(self, node: Node, sizes: Mapping[str, int]) -> Sequence[tuple[Graph, int]]:
        """The bodies that only pass its values on between devices, and how often each is run on a mesh of such sizes.
        What runs them, and computes in between, is `bind_in_rounds`."""
        return ()

    def travels(self, node: Node) -> Sequence[Sequence[Value]]:
        """What each of these bodies passes on, where the node has, or is to have, any: values of the same types."""
        return ()

    def in_rounds(
        self,
        node: Node,
        sizes: Mapping[str, int],
        fresh: Callable[[Value], Value],
        both_ways: Callable[[Sequence[str]], bool],
    ) -> Node:
        """A placed node with such bodies, where it needs them.

        Args:
            fresh: a new value of the type of another.
            both_ways: whether half of a value may go round some mesh axes each way, by other links.
        """
        return node

    def bind_in_rounds(
        self, node: Node, arrays: Sequence[Any], shards: Shards, passing: Sequence[Passing]
    ) -> Sequence[Any]:
        """The results on one device, which has shards of the operands. `passing` runs each of its bodies."""
        raise NotImplementedError(node.kind)

    def shadow_in_rounds(
        self, node: Node, arrays: Sequence[Any], shards: Shards, passing: Sequence[Passing]
    ) -> Sequence[Any]:
        """The same for operands in the ring of `ir.ring`."""
        raise NotImplementedError(node.kind)

    # --- in the ring (see `ir.ring`) ----------------------------------------------------------------------------------

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """The results of a node for operands in the ring: here of a kind that moves elements, or sums them, and does so
        with any numbers."""
        return self.bind(in_ring_node(node, self.ring_params(node)), arrays, shards)

    def sealed_shadow(self, node: Node, arrays: Sequence[Any], run: Callable[..., Any]) -> Sequence[Any]:
        """The same for a sealed op, whose body `run` gives the results of: `run(body, arrays)`."""
        raise NotImplementedError(node.kind)

    def sealed_alone(self, node: Node, arrays: Sequence[Any], run: Callable[..., Any]) -> Sequence[Any]:
        """The same on one device, which does what all devices of the body's mesh do."""
        raise NotImplementedError(node.kind)

    def places(self, node: Node) -> bool:
        """Whether it says on what devices an array of the step is, and nothing else."""
        return False

    def ring_params(self, node: Node) -> Mapping[str, Any]:
        """The parameters of its primitive for numbers of the ring."""
        return params_of(node)

    def covered(self, node: Node) -> bool:
        """Whether the ring has a meaning for the node that is the node's own; without one, it is some function of the
        whole of its operands."""
        return True

    # --- bodies -----------------------------------------------------------------------------------------------------

    def entered(self, node: Node) -> tuple[Graph, ...]:
        """The bodies that passes go into: all but those of a sealed op, and those that compute nothing."""
        return () if self.sealed or self.goes_round else node.bodies

    def feeding(self, node: Node) -> list[list[int]]:
        """For each body, the positions of the operands that feed its inputs."""
        return [list(range(len(node.inputs))) for _ in node.bodies]

    def slices_of(self, node: Node, position: int) -> bool:
        """Whether a body is fed slices of the operand at a position."""
        return False

    def body_operands(self, node: Node) -> list[tuple[Graph, list[Feed]]]:
        """For each body, how its inputs are fed: (operand outside, input inside, scanned over)."""
        if self.goes_round:
            return []
        return [
            (
                body,
                [
                    (node.inputs[position], value, self.slices_of(node, position))
                    for position, value in zip(positions, body.inputs, strict=True)
                ],
            )
            for body, positions in zip(node.bodies, self.feeding(node), strict=True)
        ]

    def body_results(self, node: Node) -> list[tuple[Graph, list[tuple[Operand, Value, bool]]]]:
        """For each body whose results leave the node: (operand inside, result outside, stacked)."""
        if self.goes_round:
            return []
        return [
            (body, [(operand, value, False) for operand, value in zip(body.outputs, node.outputs, strict=True)])
            for body in node.bodies
        ]

    def carries(self, node: Node) -> list[tuple[Value, Operand]]:
        """(before, after) of what a loop's body carries from one trip to the next."""
        return []

    def is_carry(self, node: Node, position: int) -> bool:
        """Whether the operand at a position is only the first of what a body is fed."""
        return False

    def scans(self, node: Node) -> bool:
        """Whether its body runs once for each slice of its operands."""
        return False

    def jaxprs(self, params: Mapping[str, Any]) -> list[Any]:
        """The bodies that the JAX primitive behind a node has, in the order of the node's."""
        return []

    def with_jaxprs(self, params: Mapping[str, Any], closed: Sequence[Any]) -> dict[str, Any]:
        """The parameters of that primitive with other bodies."""
        return {}


def paired(operand: Operand, targets: Sequence[int | None], result: Operand) -> Iterator[tuple[Place, Place]]:
    """`targets[i]` is where the operand's dim i is in the result."""
    for position, target in enumerate(targets):
        if target is not None and operand.type.dims[position].size == result.type.dims[target].size:
            yield (operand, position), (result, target)


def _shifted(outside: Operand, inside: Operand, by: int) -> Iterator[tuple[Place, Place]]:
    for position in range(len(inside.type.dims)):
        yield (outside, position + by), (inside, position)


def params_of(node: Node) -> Mapping[str, Any]:
    """The parameters of the primitive that a traced node remembers; none of a node that was read from text."""
    return node.origin.params if node.origin is not None else {}


def matched(before: Sequence[Dim], after: Sequence[Dim]) -> list[int | None]:
    """Each dim with the first free one of its name and size."""
    free = list(range(len(after)))
    targets: list[int | None] = []
    for dim in before:
        found = next((p for p in free if (after[p].name, after[p].size) == (dim.name, dim.size)), None)
        targets.append(found)
        if found is not None:
            free.remove(found)
    return targets


def meeting(first: Dim, second: Dim, rule: str, operands: tuple[int, int]) -> Iterator[Mismatch]:
    """A mismatch where two dims of one size have the names of two axes; one that the step made may be any."""
    if not first.name or not second.name or is_made(first.name) or is_made(second.name):
        return
    if first.size == second.size and not same_axis(first.name, second.name):
        yield Mismatch(first.name, second.name, first.size, rule, operands)


def names_of(values: Sequence[Value]) -> set[str]:
    """All names that some values have."""
    return {name for value in values for name in value.type.names}


def all_names(node: Node) -> Names:
    """All names of a node's operands and results, in alphabetic order."""
    return tuple(sorted(names_of(node.value_inputs) | names_of(node.outputs)))
