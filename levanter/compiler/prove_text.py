"""The proof of a placed graph that is written as text: of a dump, by hand or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import ir
import passes
from levanter.compiler.user_errors import user_errors
from levanter.errors import no_graph

if TYPE_CHECKING:
    from ir.graph import Graph


def prove(text: str, source: str, against: tuple[str, str] | None, mesh: Mapping[str, int] | None) -> str:
    """What is proved of the text of a placed graph.

    Args:
        source: what the user calls the text.
        against: the text of the graph before partition, and what the user calls it.
        mesh: the mesh, where sizes are to be looked at.

    Raises:
        UserError: a text is no graph, or a malformed one.
        WorkFailed: the graph is refuted.
    """
    before = None
    if against is not None:
        before, malformed = _parsed(*against)
        if malformed is not None:
            raise no_graph(against[1], malformed) from malformed
    graph, malformed = _parsed(text, source)
    try:
        with user_errors():  # what a proof says of a move that the verifier refuses too, it says better
            proof = passes.prove(graph, before, mesh)
    except (KeyError, ValueError, IndexError):
        if malformed is None:
            raise
    else:
        if malformed is None:
            return str(proof)
    raise no_graph(source, malformed) from malformed


def _parsed(text: str, source: str) -> tuple[Graph, ir.MalformedGraph | None]:
    """The graph of a text, and what the verifier says against it."""
    try:
        graph = ir.parse(text)
    except ir.ParseError as error:
        raise no_graph(source, error) from error
    try:
        return ir.verify(graph), None
    except ir.MalformedGraph as error:
        return graph, error
