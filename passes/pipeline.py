"""THE list of passes, in order, planning included, and what runs them.

After each pass the graph is verified; with a folder to dump to, it is written there, numbered, before and after:
`00-traced.ir`, `01-check_axes.ir`, … `print(PIPELINE)` says what each pass does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import getdoc
from pathlib import Path
from typing import Any

from ir.analysis.verify import verify
from ir.graph import Graph
from passes import errors, require
from passes.as_planned import check_choices
from passes.canonicalize import Canonicalize
from passes.check_axes import CheckAxes
from passes.for_tpu import ForTpu
from passes.hardware.chip import Chip
from passes.options import Option, configured, options_of
from passes.pad_axes import PadAxes
from passes.placing import PLACING
from passes.plan import ChoosePlan
from passes.planner.constraints import Constraints, Given
from passes.planner.errors import pins_beside_a_plan
from passes.planner.layouts import Layouts
from passes.planner.plan import Plan
from passes.planner.variants import best_plan, with_attention_reason, with_reason
from passes.proof.proof import Proof
from passes.prove import Prove
from passes.rematerialize import Rematerialize
from passes.report.facts import facts
from passes.ring_attention import RingAttention
from passes.sharding.mesh import DeviceMesh, MeshLike
from passes.stage import Pass, Stage


@dataclass(frozen=True)
class Pipeline:
    """Passes in order; `first` is the number of the first one's dump."""

    passes: tuple[type[Pass], ...]
    first: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.stem() for each in self.passes)

    def named(self, name: str) -> type[Pass]:
        """The pass called `name`. Raises `UnknownPass`."""
        if name not in self.names:
            raise errors.unknown_pass(name, self.names)
        return self.passes[self.names.index(name)]

    def split(self, name: str) -> tuple["Pipeline", "Pipeline"]:
        """The passes before the one called `name`, and the others. Raises `UnknownPass`."""
        at = self.passes.index(self.named(name))
        return Pipeline(self.passes[:at], self.first), Pipeline(self.passes[at:], self.first + at)

    def run(self, stage: Stage, dump: Path | None = None, configured: Sequence[Pass] = ()) -> Stage:
        """The stage after all passes, those `configured` as they are, verified (and dumped) after each."""
        for number, each in enumerate(self.passes, start=self.first):
            made = next((given for given in configured if type(given) is each), None) or each()
            stage = made.apply(stage)
            dump_graph(dump, number, each.stem(), verify(stage.graph))
        return stage

    def described(self) -> Iterator[tuple[str, str, tuple[Option, ...]]]:
        """For each pass its name, what it does, in one sentence, and its options."""
        for each in self.passes:
            summary = " ".join((getdoc(each) or "").partition("\n\n")[0].split())
            yield each.stem(), summary.removeprefix("Pass: "), options_of(each)

    def __str__(self) -> str:
        lines: list[str] = []
        for number, (name, summary, options) in enumerate(self.described(), start=self.first):
            lines.append(f"{number}. {name}: {summary}")
            lines += [f"     {option}" for option in options]
        return "\n".join(lines)


PIPELINE = Pipeline(
    (CheckAxes, Canonicalize, RingAttention, PadAxes, Rematerialize, ChoosePlan, *PLACING, Prove, ForTpu)
)

_FRONT, _BACK = PIPELINE.split(RingAttention.stem())
_AGAIN, _PLACING = _BACK.split(ChoosePlan.stem())


@dataclass(frozen=True)
class Result:
    """What the pipeline makes: the graph as it was planned, the plan, the graph placed on the mesh, and its proof; and
    the graph before the choices of the plan changed it (`passes.as_planned`)."""

    graph: Graph
    plan: Plan
    placed: Graph
    proof: Proof | None = None
    canonical: Graph | None = None

    def facts(self) -> dict[str, Any]:
        """What there is to say of the plan: the keys of docs/compile.md but `model`."""
        assert self.plan.subject is not None
        return facts(self.plan.subject, self.plan, self.placed, self.proof)


def run(
    graph: Graph,
    mesh: MeshLike,
    hardware: str | Chip = "v5e",
    *,
    plan: Plan | None = None,
    dump: Path | str | None = None,
    time_limit: float | None = None,
    pin: Given | None = None,
    forbid: Given | None = None,
    platform: str = "cpu",
) -> Result:
    """All passes on a traced graph. A given `plan` is used as it is; `time_limit`, `pin` and `forbid` are those of
    `passes.plan`; `platform` is what it is compiled for, as JAX calls it (`passes.for_tpu`).

    Raises `AxisErrors` and `PlanError`, and `NotProved` where the placed graph is refuted: a bug of this library.
    """
    dump = require.folder(dump, "run")
    dump_graph(dump, 0, "traced", verify(require.graph(graph, "run")))
    given = require.plan(plan, "run") if plan is not None else None
    layout = DeviceMesh.of(mesh)
    prepared = _FRONT.run(Stage(graph, layout, hardware, given), dump)
    constraints = Constraints.of(pin, forbid, layout)
    if given is None:
        given = best_plan(prepared.graph, layout, hardware, time_limit, constraints)
    elif constraints:
        raise pins_beside_a_plan(constraints.described(layout))
    else:
        check_choices(prepared.graph, given)
    again = _AGAIN.run(replace(prepared, plan=given), dump)
    placed = _PLACING.run(again, dump, (ForTpu(platform),))
    assert isinstance(placed.plan, Plan)
    chosen = placed.plan
    if given.document is not None:
        chosen = with_attention_reason(prepared.graph, with_reason(prepared.graph, chosen))
    return Result(again.graph, chosen, placed.graph, placed.proof, prepared.graph)


def prepare(graph: Graph) -> Graph:
    """A traced graph after the passes before planning: checked and canonical. Raises `AxisErrors`."""
    return _FRONT.run(Stage(graph)).graph


def place(graph: Graph, plan: Layouts, at_rest: tuple[int, ...] = ()) -> Graph:
    """A canonical graph placed according to a plan; inputs at the positions `at_rest` are stored as state is."""
    return _BACK.run(Stage(graph, plan.mesh, plan.hardware, plan, at_rest)).graph


def run_one(name: str, stage: Stage, options: Mapping[str, str] | None = None) -> Stage:
    """The stage after the pass called `name`, verified. A plan that the pass needs and the stage lacks is chosen first.

    Args:
        options: the fields of the pass, as text.

    Raises:
        UnknownPass, BadOption: there is no such pass, or option, or an option has no such value.
        PlanError: the pass needs a mesh and the stage has none; or see `passes.plan`.
        AxisErrors: the pass finds them.
        NotProved: the pass refutes the graph.
    """
    chosen = configured(PIPELINE.named(name), options or {})
    for position in stage.at_rest:
        if not 0 <= position < len(stage.graph.inputs):
            raise errors.no_such_input(position, len(stage.graph.inputs))
    if chosen.needs is not None and stage.mesh is None:
        raise errors.no_mesh(name)
    if chosen.needs == "plan" and stage.plan is None:
        stage = replace(stage, plan=ChoosePlan().apply(stage).plan)
    stage = chosen.apply(stage)
    verify(stage.graph)
    return stage


def dump_graph(folder: Path | None, number: int, name: str, graph: Graph) -> None:
    """Writes `NN-name.ir` into the folder, where there is one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02d}-{name}.ir").write_text(str(graph), encoding="utf-8")
