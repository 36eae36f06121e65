"""loop: `scan` (inputs: constants, carries, stacked values; outputs: carries, stacked results) and `while`, with a
second body for the condition."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import jaxpr_as_fun

from ir import errors
from ir.graph import Graph, Node, Operand, Value
from ir.jax_api import jnp
from ir.ops.op import Mismatch, Names, meeting, params_of
from ir.ops.rule import OP, Broken, Expected, Piece, count, listed, must
from ir.ops.structured import Structured, meeting_axes, replicated_choice, same_sizes
from ir.ring import in_ring
from ir.shards import Shards

_UNDECIDED, _LONGEST = 8, 1 << 16
"""After how many trips a `while` ends in the ring, if its condition does not end it: one that asks for real numbers,
which the ring knows nothing of, and any other."""


class Loop(Structured):
    """A carried value has one type from the first trip to the last: before the loop, inside it and after it."""

    kind = "loop"
    attributes = frozenset(("over", "trips", "constants", "carries", "condition_constants"))
    meetings = {
        "carry": "a loop carries {first} in and {second} out: a carry keeps its axes from one iteration to the next"
    }

    def results(self, node: Node) -> Sequence[Expected]:
        must(node.fn in ("scan", "while"), OP, errors.rule_needs("`scan` or `while`"))
        constants, carries = count(node, "constants"), count(node, "carries")
        if self.scans(node):
            must(len(node.bodies) == 1, OP, errors.bodies_do_not_fit("a scan has one body"))
            must(
                constants + carries <= len(node.inputs),
                Piece("attribute", key="carries"),
                errors.rule_needs(f"at most {len(node.inputs)} constants and carries"),
            )
            self._must_scan(node, constants + carries)
        else:
            must(len(node.bodies) == 2, OP, errors.bodies_do_not_fit("a while has a condition and a body"))
            total = count(node, "condition_constants") + constants + carries
            must(
                total == len(node.inputs),
                Piece("attribute", key="carries"),
                errors.rule_needs(f"{len(node.inputs)} constants and carries"),
            )
            # Under `vmap` there is an answer for each place; the loop goes on while one of them is true.
            answer = [operand.type.dtype for operand in node.bodies[0].outputs]
            must(answer == ["bool"], OP, errors.bodies_do_not_fit("the condition must give one bool"))
        return super().results(node)

    def made(self, node: Node) -> Sequence[Expected]:
        body = node.bodies[-1]
        expected: list[Expected] = []
        for before, after in self.carries(node):
            if not same_sizes(before.type, after.type, False):
                raise Broken(OP, errors.body_gives(body.name, str(after.type), str(before.type)))
            expected.append(Expected((before.type.dtype,), before.type.dims))
        over = node.dims("over")
        expected += [
            Expected((operand.type.dtype,), (*over, *operand.type.dims)) for operand in body.outputs[len(expected) :]
        ]
        return expected

    def decided(self, node: Node) -> None:
        """Where each place has a condition of its own, its carries stand still when it is done: devices may then make
        trips of their own number, if those that need one another on the way have the same places."""
        if self.scans(node):
            return
        answer = node.bodies[0].outputs[0]
        axes = [dim.mesh for dim in answer.type.dims]
        needed = {axis for body in node.bodies for axis in meeting_axes(body)}
        alone = not answer.type.partial and not any(needed & set(mesh) for mesh in axes)
        follow = all([dim.mesh for dim in before.type.dims[: len(axes)]] == axes for before, _ in self.carries(node))
        if not (alone and follow):
            replicated_choice(OP, answer)

    def mismatches(self, node: Node) -> Iterator[Mismatch]:
        start = node.count("constants", 0)
        for i, (value, result) in enumerate(self.carries(node)):
            for a, b in zip(value.type.dims, result.type.dims, strict=False):
                yield from meeting(a, b, "carry", (i + start, i))

    def ends(self, node: Node, mismatch: Mismatch) -> tuple[Operand, Operand]:
        (first, second), body = mismatch.operands, node.bodies[-1]
        return body.inputs[first], body.outputs[second]

    def scans(self, node: Node) -> bool:
        return node.fn == "scan"

    def scanned(self, node: Node) -> Names:
        return node.names("over") if self.scans(node) else ()

    def feeding(self, node: Node) -> list[list[int]]:
        every = list(range(len(node.inputs)))
        if self.scans(node):
            return [every]
        split = node.count("condition_constants")
        end = split + node.count("constants")
        return [[*every[:split], *every[end:]], every[split:]]

    def slices_of(self, node: Node, position: int) -> bool:
        return self.scans(node) and position >= node.count("constants", 0) + node.count("carries", 0)

    def body_results(self, node: Node) -> list[tuple[Graph, list[tuple[Operand, Value, bool]]]]:
        carries = node.count("carries", 0)
        body = node.bodies[-1]
        leaving = enumerate(zip(body.outputs, node.outputs, strict=True))
        return [(body, [(inside, value, self.scans(node) and i >= carries) for i, (inside, value) in leaving])]

    def carries(self, node: Node) -> list[tuple[Value, Operand]]:
        body, start, number = node.bodies[-1], node.count("constants", 0), node.count("carries", 0)
        return list(zip(body.inputs[start : start + number], body.outputs[:number], strict=True))

    def is_carry(self, node: Node, position: int) -> bool:
        start = node.count("constants", 0) + node.count("condition_constants", 0)
        return start <= position < start + node.count("carries", 0)

    def jaxprs(self, params: Mapping[str, Any]) -> list[Any]:
        return [params["cond_jaxpr"], params["body_jaxpr"]] if "cond_jaxpr" in params else [params["jaxpr"]]

    def with_jaxprs(self, params: Mapping[str, Any], closed: Sequence[Any]) -> dict[str, Any]:
        if "cond_jaxpr" in params:
            return {"cond_jaxpr": closed[0], "body_jaxpr": closed[1]}
        return {"jaxpr": closed[0]}

    def shadow(self, node: Node, arrays: Sequence[Any], shards: Shards) -> Sequence[Any]:
        """A condition need not come true in the ring, so a `while` has a last trip."""
        if self.scans(node):
            return super().shadow(node, arrays, shards)
        params = params_of(node)
        split, end = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        made_of: Any = jaxpr_as_fun
        again, body = (made_of(closed) for closed in self.jaxprs(params))
        real = any(in_ring(value.type.dtype) for value in node.bodies[0].values())
        last = np.int32(_UNDECIDED if real else _LONGEST)

        def goes_on(state: tuple[Any, ...]) -> Any:
            return again(*arrays[:split], *state[1:])[0]

        def condition(state: tuple[Any, ...]) -> Any:
            return goes_on(state).any() & (state[0] < last)

        def trip(state: tuple[Any, ...]) -> tuple[Any, ...]:
            made: list[Any] = body(*arrays[split:end], *state[1:])
            running = goes_on(state)
            if running.ndim:  # under `vmap`, each place stops by itself
                made = [_where(running, new, old) for new, old in zip(made, state[1:], strict=True)]
            return state[0] + np.int32(1), *made

        return list(lax.while_loop(condition, trip, (np.int32(0), *arrays[end:]))[1:])

    def _must_scan(self, node: Node, whole: int) -> None:
        """All that is scanned over is as long as the loop has trips."""
        (body,) = node.bodies
        stacked = [
            *(operand.type.dims[0] for operand in node.inputs[whole:] if operand.type.dims),
            *(value.type.dims[0] for value in node.outputs[node.count("carries") :] if value.type.dims),
        ]
        if node.inputs[whole:]:
            leading = [operand.type.dims[0] for operand in node.inputs[whole:] if operand.type.dims]
            over = listed(node, "over", leading, "what is scanned over")
        else:
            over = node.dims("over")
        must(len(over) == 1, Piece("attribute", key="over"), errors.rule_needs("the one dim that is scanned over"))
        trips = count(node, "trips")
        must(trips == over[0].size, Piece("attribute", key="trips"), errors.rule_needs(f"the size of {over[0]}"))
        for dim in stacked:
            must(dim.size == trips, OP, errors.rule_needs(f"{trips} slices of all that is scanned over, not {dim}"))
        must(
            len(body.outputs) >= node.count("carries"), OP, errors.bodies_do_not_fit("too few results for the carries")
        )


def _where(running: Any, new: Any, old: Any) -> Any:
    """The new value where it still runs, by the dims in front."""
    return jnp.where(running.reshape(*running.shape, *[1] * (new.ndim - running.ndim)), new, old)
