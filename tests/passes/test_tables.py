"""The tables that the search adds up: under any plan they say what the terms say."""

from __future__ import annotations

import random

import numpy as np
import pytest
from step_models import prepared

from passes.hardware.chip import CHIPS
from passes.planner.groups import group_of
from passes.planner.problem import Problem
from passes.planner.roots import asked_of
from passes.planner.tables import EXTRA
from passes.sharding.mesh import DeviceMesh
from passes.sharding.rules import ShardingRules

MESHES = ({"data": 4, "model": 2}, {"replica": 2, "data": 2, "model": 2})


@pytest.mark.parametrize("mesh", MESHES, ids=str)
@pytest.mark.parametrize("name", ["raw", "named", "named_checkpoint", "mlp"])
def test_a_table_has_the_price_of_its_term(name, mesh):
    chip, layout = CHIPS["v5e"], DeviceMesh.of(mesh)
    problem = Problem.of(prepared(name), layout, chip)
    space, rng = problem.space, random.Random(0)
    drawn = [
        (
            rng.choice(space.storage_choices),
            {each: int(rng.choice(list(masks))) for each, masks in space.options.items()},
        )
        for _ in range(20)
    ]
    for term in problem.terms:
        asked = asked_of(term, space, chip)
        for stored, masks in drawn:
            extra = stored.extra
            cost = term.price(ShardingRules(layout, space.order, masks, extra))
            group = group_of(asked, space, stored.names)
            wishes = {**masks, EXTRA: stored.mask}
            sets = [
                np.array(
                    [sum((wishes[each] >> axis & 1) << bit for each, bit in zip(group.names, group.bits, strict=True))]
                )
                for axis in range(len(layout.axes))
            ]
            sent = cost.activations + cost.hidden
            overlap = chip.overlap
            hidden = overlap.activations * cost.activations + overlap.state * cost.hidden
            priced = [float(part) * term.times for part in (cost.compute + sent - hidden, sent)]
            assert group.of(sets) == pytest.approx(priced, rel=1e-12), (term, masks, stored)
