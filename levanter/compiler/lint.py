"""Sharding rules of other systems held against a step: what is wrong with them, and what they cost beside the best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ir
import passes
from ir.graph import Graph
from levanter.compiler.compile import explained, planned_graph, with_choices
from levanter.compiler.errors import rules_unreadable
from levanter.compiler.question import check_hardware
from levanter.compiler.target import Target, load_step
from levanter.compiler.user_errors import user_errors
from levanter.compiler.user_step import graph_of
from levanter.config.schema import TrainConfig
from levanter.hf.table import table_of
from levanter.models.config import ModelConfig
from levanter.runtime.state import batch_shape, state_shape, train_step_of
from passes.canonicalize import canonicalize
from passes.errors import PlanError
from passes.foreign.findings import Finding, Held
from passes.foreign.held import held, laid_otherwise, plan_of, step_of
from passes.foreign.reading import Module
from passes.foreign.wording import no_room
from passes.planner.errors import reason_of
from passes.report.units import format_bytes

Step = Target | TrainConfig
"""What the rules are for."""


def linted(
    step: Step,
    path: str,
    mesh: Mapping[str, int],
    hardware: str,
    *,
    own_names: Mapping[str, str] | None = None,
    time_limit: float | None = None,
) -> dict[str, Any]:
    """What is wrong with the rules of a file for a step, and what they cost beside the planner's best (docs/lint.md has
    the keys).

    Args:
        own_names: names of theirs and ours, besides those that are known.
        time_limit: seconds after which the planner takes the best plan that it has found.

    Raises:
        UserError: the file cannot be read, or has no rules that are known.
    """
    check_hardware(hardware)
    text = _text(path)
    with user_errors():
        graph, modules = _graph(step, mesh, hardware)
        layout = passes.DeviceMesh.of(mesh)
        canonical = canonicalize(passes.check_axes(graph))
        subject = step_of(canonical, layout, modules, own_names)
        held(text, path, canonical, subject)  # before the search: what cannot be read is said at once
        best, refused = _best(graph, mesh, hardware, time_limit)
        storage = best["plan"]["storage"] if best is not None else None
        rules = held(text, path, canonical, subject, storage)
        plan = plan_of(rules, layout, hardware)
        _, theirs = explained(lambda: planned_graph(graph, mesh, hardware, plan=plan))
    findings = [*rules.findings(), *_memory(rules, theirs, best)]
    return {
        "rules": path,
        "dialect": rules.rules.dialect,
        "mesh": dict(mesh),
        "hardware": hardware,
        "findings": [asdict(each) for each in findings],
        "idle": list(rules.rules.idle),
        "theirs": _price(theirs),
        "best": _price(best) if best is not None else None,
        "refused": refused,
        "priced_otherwise": list(laid_otherwise(rules, plan)),
    }


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise rules_unreadable(path, reason_of(error)) from None


def _graph(step: Step, mesh: Mapping[str, int], hardware: str) -> tuple[Graph, Sequence[Module]]:
    if isinstance(step, Target):
        return graph_of(load_step(step)), ()
    config, _, _ = with_choices(step, mesh, hardware)
    state = state_shape(config)
    return ir.trace(train_step_of(config), state, batch_shape(config)), list(modules_of(config.model, state.model))


def modules_of(config: ModelConfig, model: Any) -> Iterator[Module]:
    """The tensors of a Hugging Face file of the model, by the modules of the file and by those of a loaded model; none
    where its family has no such files."""
    if config.hf() is None:
        return
    table = table_of(config, model)
    for entry in table.entries:
        own = entry.weight.tensor(**dict.fromkeys(entry.weight.placeholders, 0)).removesuffix(".weight")
        for module in dict.fromkeys((own, table.family.loaded(own))):
            yield Module(
                module,
                f"model.{entry.weight.path}",
                entry.weight.parsed.dims,
                entry.weight.path.startswith("embeddings."),
            )


def _best(
    graph: Graph, mesh: Mapping[str, int], hardware: str, time_limit: float | None
) -> tuple[dict[str, Any] | None, str | None]:
    """What there is to say of the planner's best, or why there is none."""
    try:
        return explained(lambda: planned_graph(graph, mesh, hardware, time_limit=time_limit))[1], None
    except PlanError as error:
        return None, str(error)


def _memory(rules: Held, theirs: Mapping[str, Any], best: Mapping[str, Any] | None) -> Iterator[Finding]:
    peak, capacity = theirs["memory"]["peak"], theirs["memory"]["capacity"]
    if 0 < capacity < peak and best is not None:
        said = no_room(format_bytes(peak), format_bytes(capacity), format_bytes(best["memory"]["peak"]))
        yield Finding("memory", rules.rules.source, *said)


def _price(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "plan": found["plan"],
        "step": found["time"]["step"],
        "peak": found["memory"]["peak"],
        "capacity": found["memory"]["capacity"],
        "tokens_per_second": found["rate"]["tokens_per_second"],
        "mfu": found["rate"]["mfu"],
    }
