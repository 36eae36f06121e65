"""A function whose results have their dims in the order in which they are made.

A product that is made as [embed, vocab] and wanted as [vocab, embed] ends in a transposed copy, and so do sums of it
with what is made elsewhere: a loop that adds up such results makes a copy in each trip. Transposes at the end of a
function are moved out of it here, behind the elementwise operations and scatters that follow them. The numbers are the
same to the bit: each is made by the same operations, and only lies elsewhere.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal

from haliax.core.merged import BROADCASTING

Order = tuple[int, ...]
"""For each dim of a result, which dim it is of what is made."""

_ELEMENTWISE = BROADCASTING | {"neg", "convert_element_type", "copy"}


def as_made(closed: ClosedJaxpr) -> tuple[ClosedJaxpr, list[Order]]:
    """The function with each result in the order of dims in which the fewest numbers are copied, and these orders:
    `lax.transpose(made, order)` is a result of the function as it was given."""
    jaxpr = _Jaxpr(closed)
    made = jax.make_jaxpr(jaxpr.run)(*closed.in_avals)
    return made, [jaxpr.order(each) for each in jaxpr.results]


class _Jaxpr:
    """A jaxpr, and what of it is made in another order of dims."""

    def __init__(self, closed: ClosedJaxpr):
        jaxpr: Any = closed.jaxpr
        self.equations: list[Any] = jaxpr.eqns
        self.results: list[Any] = jaxpr.outvars
        self.given, self.constants = [*jaxpr.constvars, *jaxpr.invars], closed.consts
        self.makers = {each: equation for equation in jaxpr.eqns for each in equation.outvars}
        read = [*(atom for equation in jaxpr.eqns for atom in equation.invars), *jaxpr.outvars]
        self.reads = Counter(atom for atom in read if not isinstance(atom, Literal))
        self.orders: dict[Any, Order] = {}
        for result in self.results:
            self.choose(result)

    def order(self, atom: Any) -> Order:
        return _identity(atom) if isinstance(atom, Literal) else self.orders.get(atom, _identity(atom))

    def maker(self, atom: Any) -> Any:
        return None if isinstance(atom, Literal) else self.makers.get(atom)

    def choose(self, result: Any) -> None:
        """Decides the order of a result, and of all that nothing else is made from."""
        through: list[Any] = []
        sources: list[Any] = []
        left = [result]
        while left:
            atom = left.pop()
            equation = self.maker(atom)
            if equation is None or self.reads[atom] > 1:
                sources.append(atom)
            elif _takes_any_order(equation):
                through.append(atom)
                left += [each for each in _in_that_order(equation) if each.aval.ndim]
            elif _is_uniform(equation):
                through.append(atom)
            else:
                sources.append(atom)
        own = [(self.order_of_source(each), each.aval.size) for each in sources]
        candidates = dict.fromkeys([_identity(result), *(order for order, _ in own)])
        best = min(candidates, key=lambda order: sum(size for each, size in own if each != order))
        if best != _identity(result):
            through += [each for each in sources if self.reads[each] == 1 and self.order_of_source(each) == best]
            self.orders |= dict.fromkeys(through, best)

    def order_of_source(self, atom: Any) -> Order:
        """The order in which it is there before it is transposed, if it is."""
        equation = self.maker(atom)
        if equation is None or equation.primitive.name != "transpose":
            return _identity(atom)
        return tuple(equation.params["permutation"])

    def run(self, *arguments: Any) -> list[Any]:
        values = dict(zip(self.given, [*self.constants, *arguments], strict=True))

        def read(atom: Any, order: Order | None = None) -> Any:
            array: Any = atom.val if isinstance(atom, Literal) else values[atom]
            if order is None or not jnp.ndim(array) or self.order(atom) == order:
                return array
            return lax.transpose(array, _inverse(order))

        for equation in self.equations:
            order = self.orders.get(equation.outvars[0])
            name, operands = equation.primitive.name, equation.invars
            if order is None:
                made = _bound(equation, [read(each) for each in operands])
            elif name == "transpose":
                made = [read(operands[0])]
            elif name == "broadcast_in_dim":
                shape = equation.params["shape"]
                made = _bound(equation, [read(operands[0])], shape=tuple(shape[dim] for dim in _inverse(order)))
            elif name == "scatter-add":
                numbers, updates = _scattered(equation.params["dimension_numbers"], order, read(operands[2]))
                arrays = [read(operands[0], order), read(operands[1]), updates]
                made = _bound(equation, arrays, dimension_numbers=numbers)
            else:
                made = _bound(equation, [read(each, order) for each in operands])
            values.update(zip(equation.outvars, made, strict=True))
        return [read(each) for each in self.results]


def _takes_any_order(equation: Any) -> bool:
    if equation.primitive.name == "scatter-add":
        return not equation.params["dimension_numbers"].operand_batching_dims
    shape = equation.outvars[0].aval.shape
    return equation.primitive.name in _ELEMENTWISE and all(each.aval.shape in ((), shape) for each in equation.invars)


def _in_that_order(equation: Any) -> Sequence[Any]:
    """The operands that have the dims of the result."""
    return equation.invars[:1] if equation.primitive.name == "scatter-add" else equation.invars


def _is_uniform(equation: Any) -> bool:
    """Whether all numbers it makes are one number, so that they have no order."""
    return equation.primitive.name == "broadcast_in_dim" and not equation.invars[0].aval.ndim


def _scattered(numbers: Any, order: Order, updates: Any) -> tuple[Any, Any]:
    """The dims of a scatter into an operand of another order, and the updates, whose windows have that order, too."""
    window = [dim for dim in range(len(order)) if dim not in numbers.inserted_window_dims]
    places = numbers.update_window_dims
    permutation = list(range(updates.ndim))
    for place, dim in zip(places, sorted(window, key=lambda dim: order[dim]), strict=True):
        permutation[place] = places[window.index(dim)]
    inserted = sorted(order[dim] for dim in numbers.inserted_window_dims)
    scattered = [order[dim] for dim in numbers.scatter_dims_to_operand_dims]
    changed = numbers._replace(inserted_window_dims=tuple(inserted), scatter_dims_to_operand_dims=tuple(scattered))
    return changed, lax.transpose(updates, permutation)


def _bound(equation: Any, operands: Sequence[Any], **changed: Any) -> list[Any]:
    made = equation.primitive.bind(*operands, **equation.primitive.get_bind_params({**equation.params, **changed}))
    return list(made) if equation.primitive.multiple_results else [made]


def _identity(atom: Any) -> Order:
    return tuple(range(atom.aval.ndim))


def _inverse(order: Order) -> Order:
    return tuple(order.index(dim) for dim in range(len(order)))
