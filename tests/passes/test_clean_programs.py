"""Right programs that look like mistakes have no findings, and their axes have names."""

import pytest
from mistakes.clean import CLEAN

import ir
import passes

in_both_forms = pytest.mark.parametrize("form", ["forward", pytest.param("trained", marks=pytest.mark.foreign)])


@in_both_forms
@pytest.mark.parametrize("name", CLEAN)
def test_it_is_clean(name, form):
    pair = CLEAN[name]
    step = pair.trained(False) if form == "trained" else pair.step(False)
    graph = ir.trace(step, *pair.shapes, names=pair.names)
    assert [str(each) for each in passes.axis_findings(graph)] == []
    dims = [dim for value in graph.values() for dim in value.type.dims if dim.size > 1]
    assert sum(dim.name is not None for dim in dims) >= 0.98 * len(dims)
