"""Traced graphs, and graphs as text: axis mistakes, what changed, one pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ir
import passes
from levanter.compiler.user_errors import user_errors
from levanter.errors import UserError, cannot_trace, no_graph
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes import pipeline
from passes.stage import Stage

if TYPE_CHECKING:
    from ir.graph import Graph
    from levanter.config.schema import TrainConfig


def findings_of(graph: Graph, ignore: Sequence[str]) -> list[dict[str, Any]]:
    """The axis mistakes of a traced step: `code`, `severity`, `what`, `source` and `text` of each.

    Args:
        ignore: codes of warnings that are not wanted.

    Raises:
        UserError: a code is no warning's.
    """
    with user_errors():
        found = passes.axis_findings(graph, ignore)
    return [
        {
            "code": each.code,
            "severity": each.severity,
            "what": each.what,
            "source": str(each.source) if each.source is not None else None,
            "text": each.text,
        }
        for each in found
    ]


def check_config(config: TrainConfig, ignore: Sequence[str]) -> list[dict[str, Any]]:
    """The axis mistakes of the training step of a config; see `findings_of`."""
    step, name = train_step_of(config), config.trainer.run_name or "the training step"
    return findings_of(traced(step, (state_shape(config), batch_shape(config)), name), ignore)


def traced(step: Callable[..., Any], arguments: Sequence[Any], name: str, names: ir.Naming | None = None) -> Graph:
    """The graph of any step.

    Args:
        arguments: arrays, or shapes, as the step takes them.
        name: what the user calls the step.
        names: of the dims of arrays that are no NamedArrays; see `ir.trace`.

    Raises:
        UserError: JAX cannot trace the step for these arguments, or the names do not fit them.
    """
    try:
        return ir.trace(step, *arguments, names=names)
    except ir.NamingError as error:
        raise UserError(f"the names of `{name}` do not fit its arguments:\n{error}") from error
    except Exception as error:
        raise cannot_trace(name, error) from error


def graph_changes(before: str, after: str, before_name: str, after_name: str) -> str:
    """What changed from one graph to another, both as text; see `ir.analysis.diff`.

    Raises:
        UserError: a text is no graph.
    """
    graphs: list[Graph] = []
    for text, name in ((before, before_name), (after, after_name)):
        try:
            graphs.append(ir.parse(text))
        except ir.ParseError as error:
            raise no_graph(name, error) from error
    return ir.changes(*graphs).text(before_name, after_name)


def run_pass(
    name: str,
    text: str,
    source: str,
    *,
    mesh: Mapping[str, int] | None = None,
    hardware: str = "v5e",
    compute: Mapping[str, Sequence[str]] | None = None,
    storage: Mapping[str, Sequence[str]] | None = None,
    at_rest: Sequence[int] = (),
    options: Mapping[str, str] | None = None,
) -> tuple[str, list[str]]:
    """The text of a graph after one pass, and what the pass warns of.

    Args:
        source: what the user calls the text.
        compute, storage: a plan by hand, for a pass that needs one; without either the planner chooses it.
        at_rest: positions of inputs that are stored as state is.
        options: those of the pass, as text.

    Raises:
        UserError: the text is no graph, or a malformed one; there is no such pass or option; the pass lacks a mesh, or
            finds axis errors.
    """
    try:
        graph = ir.verify(ir.parse(text))
    except (ir.ParseError, ir.MalformedGraph) as error:
        raise no_graph(source, error) from error
    with user_errors(), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", passes.AxisWarning)
        warnings.simplefilter("always", passes.PlanWarning)
        layout = passes.DeviceMesh.of(mesh) if mesh is not None else None
        plan = None
        if layout is not None and (compute or storage):
            wanted, kept = (
                {axis: list(over) for axis, over in (listed or {}).items()} for listed in (compute, storage)
            )
            plan = passes.Plan.by_hand(layout, wanted, kept, hardware)
        stage = Stage(graph, layout, hardware, plan, tuple(at_rest))
        answer = str(pipeline.run_one(name, stage, options).graph)
    return answer, [str(each.message) for each in warned]
