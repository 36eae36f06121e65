"""Roles: which values are kept (storage) and which are computed with (compute).

Storage is the state of the step before and after it, and what is as good as state: a cast parameter, a gradient. Two
closures say which:

- forward from the carried inputs, through elementwise functions of storage values alone, transposes and loops;
- backward from the update: values of the backward pass that nothing but the update (or such values again) reads.

A loop's carry that starts in storage and is storage after each trip is storage (whole steps in a loop); so is one that
collects gradients for the update, with the zeros that it starts from.

Between the two lies every communication that FSDP is made of: a parameter is gathered where it turns from storage to
compute, a gradient is reduce-scattered where it turns from compute to storage.

A plan may store fewer kinds of state over the storage axes (ZeRO: Rajbhandari et al. 2020, section 5). What is not
stored so is kept as it is computed with: parameters then take part in the update by their shards, and what it makes is
gathered at its end (ZeRO-2); gradients are all-reduced, and each device uses its part of them (ZeRO-1).
"""

from collections.abc import Collection, Iterator

from ir.analysis.uses import Uses
from ir.graph import Graph, Node, Value
from ir.ops import entered, op_of
from passes.sharding.rules import Role
from passes.sharding.state import STATE_KINDS, StateKind

Roles = dict[int, Role]


def assign_roles(graph: Graph, at_rest: tuple[int, ...] = (), stored: Collection[StateKind] = STATE_KINDS) -> Roles:
    """The role of every value of the graph, bodies included.

    Args:
        at_rest: positions of inputs that are state although the graph gives none back (the model of an evaluation).
        stored: the kinds of state that are stored over the storage axes; others are kept as they are computed with.
    """
    carried = [graph.inputs[before].id for before, _ in graph.carried]
    state = {*carried, *(graph.inputs[position].id for position in at_rest)}
    kept = _state(graph, state, gradients=True)
    storage = kept if len(stored) == len(STATE_KINDS) else set[int]()
    if stored and not storage:
        # Of what has the step only to read, all are parameters.
        read = read_by_passes(graph)
        parameters = {identity for identity in state if identity in read or identity not in carried}
        storage = _state(graph, state if "parameters" in stored else state - parameters, "gradients" in stored)
    roles: dict[int, Role] = {}
    for value in graph.values():
        roles[value.id] = "storage" if value.id in storage else "kept" if value.id in kept else "compute"
    return roles


def _state(graph: Graph, state: Collection[int], gradients: bool) -> set[int]:
    """State, and what is as good as state."""
    storage = set(state)
    _spread_parameters(graph, storage)
    if gradients:
        storage |= _gradients(graph, storage)
        storage |= set(_fills(graph, storage))
    return storage - set(_of_shared_trips(graph))


def read_by_passes(graph: Graph) -> set[int]:
    """Ids of the values of the outermost scope that the forward or backward pass reads: of state, the parameters."""
    readers = Uses.of_scope(graph).readers
    return {value for value, nodes in readers.items() if any(node.phase != "update" for node in nodes)}


def _of_shared_trips(graph: Graph) -> Iterator[int]:
    """What is computed in loops whose trips devices share, and what these give: no device has all of it, nor another
    one what it has. What they read comes to them gathered."""
    for node in graph.walk():
        if op_of(node).shares_trips:
            yield from (value.id for value in (*node.outputs, *(v for body in node.bodies for v in body.values())))


def _tensors(node: Node) -> list[Value]:
    return [value for value in node.value_inputs if value.type.dims]


def _spread_parameters(graph: Graph, storage: set[int]) -> None:
    for node in graph.nodes:
        if node.phase == "update":
            storage.update(value.id for value in node.outputs if value.type.dims)
            continue
        if entered(node):
            _spread_into(node, storage)
        elif (
            op_of(node).keeps_elements(node) and _tensors(node) and all(value.id in storage for value in _tensors(node))
        ):
            storage.update(value.id for value in node.outputs)


def _spread_into(node: Node, storage: set[int]) -> None:
    """From the operands of a node through its bodies to its results."""
    op = op_of(node)
    carried: set[int] = set()
    for body, positions in zip(node.bodies, op.feeding(node), strict=True):
        fed = [(node.inputs[position], position, value) for position, value in zip(positions, body.inputs, strict=True)]
        stored = [
            (value.id, op.is_carry(node, position))
            for operand, position, value in fed
            if isinstance(operand, Value) and operand.id in storage
        ]
        storage.update(identity for identity, carry in stored if not carry)
        carries = {identity for identity, carry in stored if carry} if body is node.bodies[-1] else set[int]()
        carried |= _spread_body(node, body, storage, carries)
    for _, results in op.body_results(node):
        for i, (operand, value, stacked) in enumerate(results):
            if isinstance(operand, Value) and operand.id in storage:
                kept = stacked or op.runs_once or (i < len(op.carries(node)) and op.carries(node)[i][0].id in carried)
                storage.update([value.id] if kept else [])


def _spread_body(node: Node, body: Graph, storage: set[int], carries: set[int]) -> set[int]:
    """Spreads through a body; returns those of the given carries that are storage before a trip and after it."""
    pairs = [(before, after) for before, after in op_of(node).carries(node) if before.id in carries]
    while True:
        trial = storage | {before.id for before, _ in pairs}
        _spread_parameters(body, trial)
        kept = [(before, after) for before, after in pairs if isinstance(after, Value) and after.id in trial]
        if len(kept) == len(pairs):
            storage |= trial
            return {before.id for before, _ in pairs}
        pairs = kept


def _gradients(graph: Graph, storage: set[int]) -> set[int]:
    """The greatest set of backward values that only the update, or values of the set, read."""
    candidates = {
        value.id
        for node in graph.walk()
        if node.phase == "backward"
        for value in (*node.outputs, *(v for body in entered(node) for v in body.inputs))
        if value.type.dims and value.id not in storage
    }
    kept_outputs = {operand.id for operand in graph.outputs if isinstance(operand, Value)}
    carried_out = {graph.outputs[after] for _, after in graph.carried}
    result_ids = {operand.id for operand in carried_out if isinstance(operand, Value)}
    candidates -= kept_outputs - result_ids
    while True:
        lost = _misused(graph, candidates, storage)
        if not lost:
            return candidates
        candidates -= lost


def _misused(graph: Graph, candidates: set[int], storage: set[int]) -> set[int]:
    """Candidates with a reader that wants them in the compute role."""
    lost: set[int] = set()
    stored = candidates | storage

    def demand(value: object, wanted: bool) -> None:
        if isinstance(value, Value) and value.id in candidates and not wanted:
            lost.add(value.id)

    def scope(body: Graph) -> None:
        for node in body.nodes:
            if entered(node):
                for inner, feeds in op_of(node).body_operands(node):
                    for operand, value, _ in feeds:
                        demand(operand, value.id in stored)
                    scope(inner)
                _demand_one_role(node, candidates, stored, lost)
                for _, results in op_of(node).body_results(node):
                    for operand, value, _ in results:
                        demand(operand, value.id in stored)
                        if isinstance(operand, Value) and operand.id not in stored:
                            demand(value, False)
                _demand_carries(node, candidates, stored, lost)
            elif node.phase != "update":
                kept = op_of(node).keeps_elements(node) and all(value.id in candidates for value in node.outputs)
                for operand in node.inputs:
                    demand(operand, kept)

    scope(graph)
    return lost


def _demand_one_role(node: Node, candidates: set[int], stored: set[int], lost: set[int]) -> None:
    """What an operand is in one body it is in all: it comes to them in one place."""
    fed: dict[int, list[int]] = {}
    for body, positions in zip(node.bodies, op_of(node).feeding(node), strict=True):
        for position, value in zip(positions, body.inputs, strict=True):
            fed.setdefault(position, []).append(value.id)
    for ids in fed.values():
        if not stored.issuperset(ids):
            lost.update(identity for identity in ids if identity in candidates)


def _demand_carries(node: Node, candidates: set[int], stored: set[int], lost: set[int]) -> None:
    """A carry is one value before, in and after the loop: it is a candidate everywhere or nowhere."""
    for (before, after), result in zip(op_of(node).carries(node), node.outputs, strict=False):
        members = [before, after, result]
        ids = [member.id for member in members if isinstance(member, Value)]
        if not stored.issuperset(ids):
            lost.update(identity for identity in ids if identity in candidates)


def _fills(graph: Graph, storage: set[int]) -> Iterator[int]:
    """What is made of no array and read by nothing but loops that carry it in storage."""
    readers = Uses.of_scope(graph).readers
    for node in graph.nodes:
        for body in entered(node):
            yield from _fills(body, storage)
        if not entered(node) and not _tensors(node):
            for value in node.outputs:
                if value.type.dims and all(
                    _starts_storage(value, reader, storage) for reader in readers.get(value.id, ())
                ):
                    yield value.id


def _starts_storage(value: Value, reader: Node, storage: set[int]) -> bool:
    """Whether a value is, for this reader, nothing but the start of carries in storage."""
    op = op_of(reader)
    fed = [
        op.is_carry(reader, i) and inside.id in storage
        for _, feeds in op.body_operands(reader)
        for i, (operand, inside, _) in enumerate(feeds)
        if operand == value
    ]
    return bool(fed) and all(fed)
