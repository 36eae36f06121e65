"""Decides how every value is sharded: each axis name over some mesh axes, for compute and for storage.

The search is `passes.planner`; docs/planner.md explains it. A plan that is given is taken as it is. Afterwards the type
of every value says how it is sharded between the operations, `f32[batch=32@data, embed=64]`; nothing communicates
yet.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from passes import errors
from passes.follow import refuse_unfollowed
from passes.partition import refuse_partitioned
from passes.planner.plan import Plan
from passes.planner.solve import solve, with_reasons
from passes.planner.subject import subject_of
from passes.retype import laid_out, without_layout
from passes.sharding.roles import assign_roles
from passes.stage import Need, Pass, Stage


@dataclass(frozen=True)
class ChoosePlan(Pass):
    """Pass: chooses the plan of a canonical graph, or takes the given one, and lays the graph out.

    Attributes:
        time_limit: seconds after which the best plan so far is taken; 0 searches until the optimum is proven.
    """

    needs: ClassVar[Need | None] = "mesh"

    time_limit: float = 0.0

    def apply(self, stage: Stage) -> Stage:
        """The stage with its plan.

        Raises:
            PlanError: there is no mesh, no plan fits, or a plan that was read from a file is not one of this step.
        """
        refuse_partitioned(stage.graph)
        graph, chosen = without_layout(stage.graph), stage.plan
        if chosen is None:
            if stage.mesh is None:
                raise errors.no_mesh(self.stem())
            chosen = solve(graph, stage.mesh, stage.hardware, self.time_limit or None)
        elif chosen.subject is None:
            refuse_unfollowed(graph, chosen)
            chosen = replace(chosen, subject=subject_of(graph))
            if chosen.document is not None and isinstance(chosen, Plan):
                chosen = with_reasons(graph, chosen)
        return replace(
            stage, graph=laid_out(graph, chosen, assign_roles(graph, stage.at_rest, chosen.stored)), plan=chosen
        )
