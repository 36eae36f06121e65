"""call: a body that must stay one: `jax.checkpoint`, a composite, or a `jit` with shardings of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from ir import errors
from ir.graph import Node
from ir.ops.rule import OP, Expected, must
from ir.ops.structured import Structured, body_param


class Call(Structured):
    """Operands are the inputs of the body, its results are the results."""

    kind = "call"
    runs_once = True

    def results(self, node: Node) -> Sequence[Expected]:
        must(len(node.bodies) == 1, OP, errors.bodies_do_not_fit("a call has one body"))
        return super().results(node)

    def only_groups(self, node: Node) -> bool:
        """A `jit` with shardings of its own speaks of whole arrays."""
        return node.fn == "jit"

    def jaxprs(self, params: Mapping[str, Any]) -> list[Any]:
        return [params[str(body_param(params))]]

    def with_jaxprs(self, params: Mapping[str, Any], closed: Sequence[Any]) -> dict[str, Any]:
        key = str(body_param(params))
        return {key: closed[0] if hasattr(params[key], "consts") else closed[0].jaxpr}
