"""A plan: which name is sharded over which mesh axes, in two roles, in which priority order, and its predicted cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ir.graph import Graph
from ir.names import is_part
from passes import errors, require
from passes.as_planned import as_planned, own_sizes
from passes.canonicalize import canonicalize
from passes.hardware.assignment import assignment_of
from passes.hardware.chip import Chip, chip_of
from passes.partition import partition, partitioned
from passes.planner import errors as document_errors
from passes.planner.attention import attention_of
from passes.planner.document import PlanDocument, choice_word, read_document, text_of
from passes.planner.layouts import Layouts, RunnerUp, Search
from passes.planner.remat import remat_of
from passes.planner.subject import subject_of
from passes.report.facts import facts, question
from passes.report.heading import heading
from passes.report.report import Report
from passes.sharding.jax_mesh import device_mesh, named_sharding, partition_spec
from passes.sharding.mesh import DeviceMesh, MeshLike
from passes.sharding.state import STATE_KINDS, kinds_of
from passes.sharding.trees import mapped

__all__ = ["Plan", "RunnerUp", "Search"]


@dataclass(frozen=True)
class Plan(Layouts):
    """Layouts by name on a mesh. `print(plan)` says what `levanter compile` prints: the layouts, why, and their price.

    The fields are those of `Layouts`. A plan is data: it can be compared, pickled and sent elsewhere.
    """

    @classmethod
    def by_hand(
        cls,
        mesh: MeshLike,
        compute: Mapping[str, str | Sequence[str]],
        storage: Mapping[str, str | Sequence[str]] | None = None,
        hardware: str | Chip = "v5e",
        *,
        regather: bool | None = None,
        stored: Sequence[str] = STATE_KINDS,
        order_where: Mapping[str, Sequence[str]] | None = None,
        remat: Sequence[str] = (),
        padding: Mapping[str, int] | None = None,
        network: Mapping[str, str] | None = None,
        attention: str = "",
    ) -> "Plan":
        """A plan of your own; the priority order of names is that in which `compute`, then `storage`, lists them. For
        storage axes it is that of `storage`.

        A name is sharded over one mesh axis (`{"batch": "data"}`) or several (`{"batch": ("replica", "data")}`). A name
        that the graph does not have, or whose size its mesh axes do not divide, is a `PlanWarning` where the plan is
        used. `regather` says whether parameters are gathered again in the backward pass; by default they are where the
        chip has no room for gathered ones. `stored` are the kinds of state that `storage` shards (`STATE_KINDS`).
        `order_where` says where names come in another order: with `{"mlp": ("experts", "batch")}`, `experts` comes
        before `batch` in each array and operation that has `mlp`.
        `remat` says what the backward pass computes again: `["full"]`, or all but what products make of some names,
        `["mlp"]`; by default the step is left as it is. `padding` says to what sizes names are padded, so that mesh
        axes divide them: `{"vocab": 50260}`. `network` says which part of the physical network each mesh axis has,
        outermost first where they share a dim: `{"data": "4x4x1", "model": "1x1x4"}` on a v5p, `{"data": "2 nodes",
        "model": "8"}` on GPUs.
        `attention` says whether keys go round where positions are sharded, `"ring"`, or are gathered, by default.

        Raises `PlanError` for an axis that the mesh does not have, a bad mesh, unknown hardware and a network that it
        does not have.
        """
        layout, chip = DeviceMesh.of(mesh), chip_of(hardware)
        assigned = assignment_of(network or {}, layout, chip).words(layout) if network else ()
        used = _axes_by_name("compute", compute, layout)
        kept = _axes_by_name("storage", {} if storage is None else storage, layout)
        merged = {name: tuple(dict.fromkeys((*used.get(name, ()), *axes))) for name, axes in kept.items()}
        return cls(
            layout,
            tuple(dict.fromkeys((*used, *kept))),
            used,
            {**merged, **{name: axes for name, axes in used.items() if name not in merged}},
            chip.name,
            custom_chip=chip if isinstance(hardware, Chip) else None,
            regather=regather,
            stored=kinds_of(stored),
            order_where={where: tuple(names) for where, names in (order_where or {}).items()},
            remat=remat_of(remat),
            padding=dict(sorted((padding or {}).items())),
            network=assigned,
            attention=attention_of(attention),
        )

    @classmethod
    def load(cls, path: str | Path, hardware: str | Chip | None = None) -> "Plan":
        """The plan that a file says (docs/plans.md). Where it is used, what the step cannot follow of it is an error.

        Args:
            hardware: the chip that it is used on. Left out: the one that it was made for.

        Raises `PlanError`, with the file and the line, where it cannot be read or is no plan.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise document_errors.document_unreadable(str(path), document_errors.reason_of(error)) from None
        return cls.of_document(read_document(text, str(path)), hardware)

    @classmethod
    def of_document(cls, document: PlanDocument, hardware: str | Chip | None = None) -> "Plan":
        """The plan that a document says. Raises `PlanError` for an unknown chip."""
        storage = {name: axes for name, axes in document.storage.items() if axes}
        chip = document.hardware if hardware is None else hardware
        try:
            assignment_of(document.network, document.device_mesh, chip_of(chip))
        except errors.PlanError as error:
            raise document_errors.in_document(document.source, error) from None
        made = cls.by_hand(
            document.device_mesh,
            document.compute,
            storage,
            chip,
            stored=document.stored,
            order_where=document.order,
            remat=document.remat,
            padding=document.padding,
            network=document.network,
            attention=document.attention or "",
        )
        return replace(
            made,
            document=document,
            microbatches=document.microbatches,
            moments=document.moments or "",
            gradients=document.gradients or "",
            **document.choices,
        )

    def as_document(self, model: str | None = None) -> PlanDocument:
        """What a file says of the plan.

        Args:
            model: what the step is called. Left out: as the file has it that the plan was read from, or the graph.
        """
        said = [name for name in self.order if self.compute.get(name) or (name in self.compute and is_part(name))]
        mesh, compute = self.mesh, {name: self.compute[name] for name in said}
        kept = {name: axes for name, axes in self.storage.items() if axes}
        extra = {name: [axis for axis in axes if axis not in compute.get(name, ())] for name, axes in kept.items()}
        graph = self.subject.graph if self.subject is not None else None
        sizes = self.document.sizes if self.document is not None else dict[str, int]()
        if graph is not None:
            sizes = own_sizes(graph, self)
        known = graph.name if graph is not None else None
        return PlanDocument(
            str(mesh),
            {name: list(axes) for name, axes in compute.items()},
            {name: axes for name, axes in extra.items() if axes},
            self.hardware,
            model if model is not None else self.document.model if self.document is not None else known or None,
            {name: sizes[name] for name in dict.fromkeys((*compute, *kept)) if name in sizes},
            choice_word(self.regather),
            choice_word(self.defer_sums),
            choice_word(self.hoist_gathers),
            list(self.stored),
            {where: list(names) for where, names in self.order_where.items()},
            list(self.remat),
            self.microbatches,
            self.moments or None,
            self.gradients or None,
            dict(self.padding),
            dict(self.network),
            self.attention or None,
        )

    def save(self, path: str | Path, model: str | None = None) -> None:
        """Writes the plan as a file that `Plan.load` reads: the same bytes for equal plans of one step.

        Args:
            model: what the step is called; see `as_document`.

        Raises `PlanError` where it cannot be written.
        """
        report = self.report() if self.subject is not None else None
        text = text_of(self.as_document(model), heading(report) if report is not None else (), self.reasons)
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise document_errors.document_unwritable(str(path), document_errors.reason_of(error)) from None

    def shardings(self, tree: Any, *, graph: Graph | None = None, devices: Any = None) -> Any:
        """Where the arrays of a tree lie between steps: for `jax.device_put(state, plan.shardings(state))`, and for
        `in_shardings` and `out_shardings` of `jax.jit`.

        Args:
            tree: one of the step's arguments, all of them as a tuple, the step's result, or a part of one of these;
                it holds arrays, NamedArrays, or `jax.ShapeDtypeStruct`s.
            graph: the traced step. Left out: the step that was planned.
            devices: as many as the mesh has, in order; see `passes.device_mesh`.

        Returns:
            a tree of the same structure with a `jax.sharding.NamedSharding` for every array, and None for a leaf that
            is no array, as `eqx.filter(tree, eqx.is_array)` has it.

        Raises:
            PlanError: the tree is none of the step's; there are too few devices; the plan was made by hand, so that a
                graph is needed.
        """
        mesh = device_mesh(self, devices)
        return mapped(tree, self._placed_step("shardings", graph), partial(named_sharding, mesh=mesh))

    def specs(self, tree: Any, *, graph: Graph | None = None) -> Any:
        """The same as `jax.sharding.PartitionSpec`s over the axes of the plan's mesh; no devices are needed."""
        return mapped(tree, self._placed_step("specs", graph), partition_spec)

    def _placed_step(self, function: str, graph: Graph | None) -> Graph:
        if graph is not None:
            return partition(canonicalize(require.graph(graph, f"Plan.{function}")), self)
        if self.subject is None:
            raise errors.no_subject(function)
        return self._placed

    @cached_property
    def _placed(self) -> Graph:
        """The step that was planned, placed."""
        assert self.subject is not None
        return partitioned(self.subject.graph, self)

    def report(self, graph: Graph | None = None) -> Report:
        """What `levanter compile` says of the plan: the keys of docs/compile.md, printed as its tables.

        Args:
            graph: the traced step. Left out: the step that was planned.

        Raises:
            PlanError: the plan was made by hand, so that a graph is needed.
        """
        subject = self.subject
        if graph is not None:
            subject = subject_of(as_planned(canonicalize(require.graph(graph, "Plan.report")), self))
        if subject is None:
            raise errors.no_subject("report")
        return Report({"model": subject.graph.name, **facts(subject, self)})

    def __str__(self) -> str:
        """The report as tables; the layouts alone where the plan knows no step."""
        known = self.report() if self.subject is not None else Report({"model": "plan by hand", **question(self)})
        return str(known)


def _axes_by_name(role: str, rules: Any, mesh: DeviceMesh) -> dict[str, tuple[str, ...]]:
    """Sharding rules as the user wrote them, each name with a tuple of mesh axes."""
    if not hasattr(rules, "items"):
        raise errors.rules_kind(role, rules)
    found: dict[str, tuple[str, ...]] = {}
    for name, written in rules.items():
        several = hasattr(written, "__iter__") and not isinstance(written, str)
        listed: list[Any] = list(written) if several else [written]
        if not isinstance(name, str) or not all(isinstance(axis, str) for axis in listed):
            raise errors.rule_kind(role, name, written)
        for axis in listed:
            if axis not in mesh.axes:
                raise errors.rule_mesh_axis(role, name, axis, mesh.axes)
        if len(set(listed)) < len(listed):
            raise errors.rule_axis_twice(role, name, written)
        found[name] = tuple(listed)
    return found
