"""The mesh that is chosen for some devices."""

import pytest
from step_models import prepared

import passes
from passes import DeviceMesh, PlanError
from passes.hardware.chip import CHIPS
from passes.placing import placed
from passes.planner.meshes import choose_mesh, factorings
from passes.summary import times


def shapes(devices, chip):
    return [str(mesh) for mesh in factorings(devices, CHIPS[chip])]


def test_every_way_of_sharing_devices():
    assert shapes(8, "v5e") == ["data=8", "data=4,model=2", "data=2,model=4"]
    assert shapes(1, "v5e") == ["data=1"]
    # Three nodes: also with `replica` between them.
    assert [mesh for mesh in shapes(24, "h100") if "replica" in mesh] == [
        "replica=3,data=8",
        "replica=3,data=4,model=2",
        "replica=3,data=2,model=4",
    ]
    assert [mesh for mesh in shapes(512, "v5e") if "replica" in mesh][:2] == [
        "replica=2,data=256",
        "replica=2,data=128,model=2",
    ]
    assert not any("replica" in mesh for mesh in shapes(256, "v5e"))


def test_the_fastest_is_chosen():
    """As each of them is planned alone."""
    graph = prepared("mlp")
    choice = choose_mesh(8, "v5e", lambda mesh: graph)
    assert choice.mesh == choice.tried[0].mesh
    alone = {}
    for mesh in factorings(8, CHIPS["v5e"]):
        plan = passes.plan(graph, mesh, "v5e")
        alone[str(mesh)] = times(graph, placed(graph, plan), plan).step
    assert {str(each.mesh): each.step for each in choice.tried} == pytest.approx(alone)
    assert [each.step for each in choice.tried] == sorted(each.step for each in choice.tried)


class Refused(Exception):
    pass


def test_what_a_mesh_cannot_have_is_said():
    graph = prepared("mlp")

    def graph_for(mesh: DeviceMesh):
        if mesh.as_dict()["data"] == 8:
            raise Refused("the batch does not divide")
        return graph

    choice = choose_mesh(8, "v5e", graph_for, (Refused,))
    assert str(choice.tried[-1].mesh) == "data=8"
    assert choice.tried[-1].refused == "the batch does not divide"
    assert choice.tried[-1].step is None

    def none_for(mesh: DeviceMesh):
        raise Refused("too large")

    with pytest.raises(PlanError) as caught:
        choose_mesh(4, "v5e", none_for, (Refused,))
    assert str(caught.value) == (
        "no mesh of 4 devices has a plan that fits:\n  data=4: too large\n  data=2,model=2: too large"
    )
    with pytest.raises(PlanError) as caught:
        choose_mesh(0, "v5e", graph_for)
    assert str(caught.value) == "devices is 0: a mesh needs at least 1"
