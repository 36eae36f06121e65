"""branch: the first operand chooses a body, the others are its inputs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ir import errors
from ir.graph import Node, Operand
from ir.ops.dtypes import is_integer
from ir.ops.op import Mismatch, meeting
from ir.ops.rule import OP, Expected, Piece, must, operands
from ir.ops.structured import Structured, replicated_choice


class Branch(Structured):
    """The results of all bodies are of the same dims, under the names of the first body's."""

    kind = "branch"
    meetings = {"branch": "branches return {first} and {second} at the same place"}

    def results(self, node: Node) -> Sequence[Expected]:
        chooser = operands(node, 1)[0].type
        choosing = not chooser.dims and (chooser.dtype == "bool" or is_integer(chooser.dtype))
        must(choosing, Piece("operand"), errors.operand_rank(str(chooser), "the number of a body"))
        must(bool(node.bodies), OP, errors.bodies_do_not_fit("there is no body"))
        return super().results(node)

    def decided(self, node: Node) -> None:
        """What chooses a body is the same on each device."""
        replicated_choice(Piece("operand"), node.inputs[0])

    def mismatches(self, node: Node) -> Iterator[Mismatch]:
        first = node.bodies[0].outputs
        for i, body in enumerate(node.bodies[1:], start=1):
            for result, (a, b) in enumerate(zip(first, body.outputs, strict=True)):
                for x, y in zip(a.type.dims, b.type.dims, strict=False):
                    yield from meeting(x, y, "branch", (result, i))

    def ends(self, node: Node, mismatch: Mismatch) -> tuple[Operand, Operand]:
        result, body = mismatch.operands
        return node.bodies[0].outputs[result], node.bodies[body].outputs[result]

    def feeding(self, node: Node) -> list[list[int]]:
        return [list(range(1, len(node.inputs))) for _ in node.bodies]

    def jaxprs(self, params: Mapping[str, Any]) -> list[Any]:
        return list(params["branches"])

    def with_jaxprs(self, params: Mapping[str, Any], closed: Sequence[Any]) -> dict[str, Any]:
        return {"branches": tuple(closed)}
