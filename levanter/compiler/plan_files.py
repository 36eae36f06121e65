"""The file of a plan beside the step that it is for: what does not go together is said, and a plan is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levanter.compiler import errors
from passes.as_planned import own_sizes
from passes.planner.document import text_of
from passes.planner.errors import reason_of
from passes.report.heading import heading

if TYPE_CHECKING:
    from levanter.compiler.compile import Compiled
    from passes.pipeline import Result


@dataclass(frozen=True)
class PlanFile:
    """How a command line names a step, and where its plan is to be written.

    Attributes:
        model: the configuration or step, as the user calls it.
        save: a file for the plan; None writes none.
        html: a file for the page of the plan; None writes none.
        emit: another system whose sharding rules are to say the plan (`passes.foreign.emit.FORMATS`).
    """

    model: str
    save: Path | None = None
    html: Path | None = None
    emit: str | None = None

    def notes(self, result: Result | Compiled) -> Iterator[str]:
        """What there is to say where a plan was made for something else."""
        plan = result.plan
        if plan.document is None:
            return
        document, sizes = plan.document, own_sizes(result.graph, plan)
        if document.model and self.model and document.model != self.model:
            yield errors.plan_of_another_model(document.source, document.model, self.model)
        changed = {name: (size, sizes[name]) for name, size in document.sizes.items() if sizes.get(name, size) != size}
        if changed:
            yield errors.plan_of_other_sizes(document.source, changed)
        if document.hardware != plan.hardware:
            yield errors.plan_of_another_chip(document.source, document.hardware, plan.hardware)

    def write(self, result: Result, report: Mapping[str, Any]) -> dict[str, str]:
        """Write the plan, and its page; what is to be printed comes back, as `emitted`.

        Args:
            report: what `levanter compile` says of it.

        Raises:
            UserError: a file cannot be written.
            PlanError: the other system's rules cannot say the plan.
        """
        named = {"model": self.model, **report}
        if self.save is not None:
            document = result.plan.as_document(self.model)
            _write(self.save, text_of(document, heading(named), result.plan.reasons), "--save-plan")
        # A run, which follows a file and writes none, does without these modules.
        if self.html is not None:
            from passes.page.page import page

            _write(self.html, page(named, result.graph, result.plan), "--html")
        if self.emit is None:
            return {}
        from passes.foreign.emit import emitted

        return {"emitted": emitted(self.emit, result.graph, result.plan)}


def _write(path: Path, text: str, option: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise errors.plan_not_written(str(path), reason_of(error), option) from None


def plan_followed(compiled: Compiled) -> list[str]:
    """What a run says of the file that its plan comes from; nothing where the planner has chosen it."""
    document = compiled.plan.document
    if document is None:
        return []
    return [errors.plan_followed(document.source), *PlanFile("").notes(compiled)]
