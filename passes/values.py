"""Whether a laid out step computes what the step computes on one device: both in the ring, compared to the bit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ir import jax_api
from ir.graph import Graph
from ir.jax_api import jnp
from passes import errors, require
from passes.lower import Partitioner
from passes.planner.plan import Plan
from passes.ring_inputs import ring_inputs
from passes.shadow import alone, not_covered, shadow_placed


@dataclass(frozen=True)
class Different:
    """An output that is not the same.

    Attributes:
        output: its path in the result.
        first: the index of the first element that differs.
        elements, of: how many differ, and how many there are.
    """

    output: str
    first: tuple[int, ...]
    elements: int
    of: int

    def __str__(self) -> str:
        at = f"first at [{', '.join(map(str, self.first))}]" if self.first else "a scalar"
        return f"`{self.output}`: {self.elements:,} of {self.of:,} elements differ, {at}"


@dataclass(frozen=True)
class Values:
    """What the comparison found.

    Attributes:
        outputs: how many outputs were compared.
        different: those that are not the same.
        not_covered: (name, line) of what has no meaning in the ring: it is taken for some function of its operands.
    """

    outputs: int
    different: tuple[Different, ...]
    not_covered: tuple[tuple[str, str | None], ...] = ()

    @property
    def equal(self) -> bool:
        return not self.different

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Values":
        """The inverse of `facts`."""
        different = [Different(d["output"], tuple(d["first"]), d["elements"], d["of"]) for d in facts["different"]]
        missing = [(each["name"], each["source"]) for each in facts["not_covered"]]
        return cls(facts["outputs"], tuple(different), tuple(missing))

    def __str__(self) -> str:
        lines = [f"values equal: {self.outputs - len(self.different)} of {self.outputs} outputs"]
        lines += [f"  {each}" for each in self.different]
        lines += [f"  not covered: {name}" + (f" ({line})" if line else "") for name, line in self.not_covered]
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """The same as JSON can hold it (see docs/proof_by_values.md)."""
        return {
            "outputs": self.outputs,
            "equal": self.outputs - len(self.different),
            "different": [
                {"output": each.output, "first": list(each.first), "elements": each.elements, "of": each.of}
                for each in self.different
            ],
            "not_covered": [{"name": name, "source": line} for name, line in self.not_covered],
        }


def compare_values(
    graph: Graph,
    placed: Graph,
    plan: Plan,
    devices: Sequence[Any] | Mesh | None = None,
    *,
    partitioner: Partitioner = "explicit",
    seed: int = 0,
    given: Mapping[int, Any] | None = None,
) -> Values:
    """Runs the shadow of a traced step on one device, and that of its placed graph on the mesh, and compares.

    Args:
        graph: the step as it was traced.
        placed: the same after all passes, as in the `placed` of `passes.run`.
        plan: the layout.
        devices: as many as the mesh has; default: the first of `jax.devices()`.
        partitioner: as in `passes.lower`.
        seed: of the numbers that go in.
        given: integers, booleans and keys that are known, by the position of the input.

    Raises:
        PlanError: a graph was parsed from text, or the devices do not fit the plan's mesh.
    """
    if require.graph(graph, "compare_values").trees is None:
        raise errors.no_origin(graph.name)
    laid_out = shadow_placed(flat(placed), plan, devices, partitioner=partitioner)
    return Reference.of(graph, seed, given).against(laid_out)


@dataclass(frozen=True)
class Reference:
    """What a step's shadow gives on one device.

    Attributes:
        graph: the step.
        inputs, outputs: the arrays, in the order of the graph's.
    """

    graph: Graph
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @classmethod
    def of(cls, graph: Graph, seed: int = 0, given: Mapping[int, Any] | None = None) -> "Reference":
        """Runs the shadow of a traced step; see `compare_values`."""
        inputs = tuple(ring_inputs(graph, seed, given))
        return cls(graph, inputs, tuple(map(_numbers, alone(flat(graph))(*inputs))))

    def against(self, laid_out: Callable[..., Sequence[Any]]) -> Values:
        """Runs a function that takes the arrays of the step's shadow one by one and gives its outputs one by one."""
        found = list(laid_out(*self.inputs))
        paths = self.graph.output_paths
        names = [path or f"output {place}" for place, path in enumerate(paths or [""] * len(self.outputs))]
        triples = zip(names, self.outputs, found, strict=True)
        different = [each for triple in triples if (each := _difference(*triple)) is not None]
        return Values(len(found), tuple(different), tuple(not_covered(self.graph)))


def flat(graph: Graph) -> Graph:
    """The graph as that of a step which takes and gives its arrays one by one."""
    arguments = jax_api.tree_structure(tuple([0] * len(graph.inputs)))
    outputs = jax_api.tree_structure([0] * len(graph.outputs))
    trees = replace(graph.trees, arguments=arguments, outputs=outputs, static=False, updated=None)
    paths = tuple([f"input{position}" for position in range(len(graph.inputs))])
    return replace(graph, trees=trees, input_paths=paths)


def _numbers(array: Any) -> Any:
    """An array as numbers that NumPy compares."""
    return np.asarray(_comparable(array))


def _comparable(array: Any) -> Any:
    if array.dtype == jax.dtypes.float0:
        return np.zeros(array.shape, bool)
    return jax.random.key_data(array) if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else array


def _difference(name: str, wanted: Any, found: Any) -> Different | None:
    """Where an output differs on any device: those that should have the same are all looked at."""
    array = _comparable(found)
    unequal = np.zeros(wanted.shape, bool)
    for shard in getattr(array, "addressable_shards", ()):
        unequal[shard.index] |= np.asarray(shard.data) != wanted[shard.index]
    count = int(np.count_nonzero(unequal))
    if count == 0:
        return None
    at = np.unravel_index(int(np.argmax(unequal)), wanted.shape) if wanted.shape else ()
    return Different(name, tuple(map(int, at)), count, int(wanted.size))
