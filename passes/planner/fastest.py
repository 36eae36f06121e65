"""Of several plans of a step the fastest, and what there is to say of all their searches together.

Each is found with proof, so the fastest of them is the optimum of all.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from passes import errors
from passes.placing import placed
from passes.planner.layouts import ROUNDING, Search
from passes.planner.plan import Plan
from passes.planner.time_left import TimeLeft, unlimited
from passes.summary import times

_Key = TypeVar("_Key")


def fastest(plans: Mapping[_Key, Callable[[], Plan]], left: TimeLeft = unlimited) -> tuple[Plan, dict[_Key, float]]:
    """The fastest of some plans that know their step, each of which is made when its turn comes, of equal ones the
    first; and the seconds of a step under each that fits.

    Args:
        left: where none is left and there is a plan, no more are made; then nothing says how fast the optimum is.

    Raises:
        DoesNotFit: none of them fits: what the first one says.
    """
    if not plans:
        raise errors.DoesNotFit
    made: dict[_Key, Plan] = {}
    refused: list[errors.DoesNotFit] = []
    for key, solved in plans.items():
        if made and left() == 0.0:
            break
        try:
            made[key] = solved()
        except errors.DoesNotFit as error:
            refused.append(error)
    if not made:
        raise refused[0]
    steps = {key: step_of(plan) for key, plan in made.items()}
    least = min(steps.values())
    best = next(key for key, step in steps.items() if step <= least * (1 + ROUNDING))
    searches = [(plan.search, steps[key]) for key, plan in made.items() if plan.search is not None]
    bound = min((step * (1 - search.gap) for search, step in searches), default=steps[best])
    bound = bound if len(made) + len(refused) == len(plans) else 0.0
    joined = Search.joined([search for search, _ in searches], steps[best], bound)
    return replace(made[best], search=joined), steps


def step_of(plan: Plan) -> float:
    """Seconds of a step under a plan that knows its step."""
    assert plan.subject is not None
    graph = plan.subject.graph
    return times(graph, placed(graph, plan), plan).step
