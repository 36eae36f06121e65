"""What a person decides of a plan before the search: names pinned to mesh axes, and mesh axes forbidden to names.

A pinned name is sharded over just these mesh axes, in use or at rest, whichever is better, and no name that comes
before it has them everywhere; a mesh axis that is forbidden to a name is not taken by it in either role. Both restrict
the space of plans, and what is found in each part of what is left is found with proof, so the best of these is the
optimum of all that is allowed. There are several parts because only one name is stored over axes that it is not
computed over: one part for each name that this may be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal, TypeAlias

from passes.errors import rule_mesh_axis
from passes.hardware.assignment import Words
from passes.planner import errors
from passes.planner.attention import ATTENTION, GATHERED, attention_of
from passes.planner.remat import AS_IT_IS, Remat, remat_of
from passes.planner.space import PlanSpace, StorageAxes
from passes.sharding.mesh import DeviceMesh
from passes.sharding.rules import Role, in_order
from passes.sharding.state import STAGES, STATE_KINDS, StateKind, kinds_of

Given: TypeAlias = Mapping[str, str | Sequence[str]]
"""Mesh axes by name, as a user writes them."""
Shapes: TypeAlias = Sequence[tuple[tuple[tuple[str, int], ...], Role]]
STORED, REMAT, MICROBATCHES, PADDING, ANY = "stored", "remat", "microbatches", "padding", "any"
MOMENTS: Literal["moments"] = "moments"
GRADIENTS: Literal["gradients"] = "gradients"
NETWORK: Literal["network"] = "network"
"""What is pinned to kinds of state, to what the backward pass computes again, to a number of parts of the batch, to
names that are padded, to what running means and gradients are kept in, to parts of the physical network, and to
how attention is computed; and the word for whichever is best."""
USUAL = "usual"
"""The word for the assignment of mesh axes to the physical network that a plan has that says nothing of it."""
_CHOICES = (STORED, REMAT, MICROBATCHES, PADDING, MOMENTS, GRADIENTS, NETWORK, ATTENTION)
_Way: TypeAlias = tuple[tuple[StorageAxes, ...], dict[str, int], dict[str, int]]
"""Storage choices, mesh axes forbidden to names, and those that pinned names are computed over."""


@dataclass(frozen=True)
class Constraints:
    """Masks of the mesh axes that names are pinned to, and of those forbidden to them; and the sets of kinds of state
    of which one is stored; what the backward pass computes again, or `any`; the names that are padded, or `any`; and
    the part of the physical network that each mesh axis has, nothing for the usual one, None for whichever is best; and
    how attention is computed, or `any`, which is what is searched unless it is pinned."""

    pinned: Mapping[str, int] = field(default_factory=dict[str, int])
    forbidden: Mapping[str, int] = field(default_factory=dict[str, int])
    levels: tuple[tuple[StateKind, ...], ...] = (STATE_KINDS,)
    remat: Remat = AS_IT_IS
    padding: tuple[str, ...] = ()
    network: Words | None = None
    attention: str = ANY

    @classmethod
    def of(cls, pin: Given | None, forbid: Given | None, mesh: DeviceMesh) -> Constraints:
        """From what a user writes; `stored` among the pins are kinds of state, or `any`. Raises `PlanError` for an axis
        that the mesh does not have, and where a name is pinned to what is forbidden to it."""
        names = {name: axes for name, axes in (pin or {}).items() if name not in _CHOICES}
        pinned, forbidden = _masks("pin", names, mesh), _masks("forbid", forbid or {}, mesh)
        for name in pinned.keys() & forbidden.keys():
            if both := pinned[name] & forbidden[name]:
                raise errors.pinned_and_forbidden(name, mesh.names(both))
        if MICROBATCHES in (pin or {}):
            raise errors.microbatches_are_traced()
        if MOMENTS in (pin or {}):
            raise errors.moments_are_traced()
        if GRADIENTS in (pin or {}):
            raise errors.gradients_are_traced()
        remat = remat_of(_words((pin or {}).get(REMAT, ())))
        padding = tuple(sorted(set(_words((pin or {}).get(PADDING, ())))))
        network = _network((pin or {}).get(NETWORK, ANY))
        attention, levels = _attention((pin or {}).get(ATTENTION, ANY)), _levels((pin or {}).get(STORED, STATE_KINDS))
        return cls(pinned, forbidden, levels, remat, padding, network, attention)

    def __bool__(self) -> bool:
        of_state = self.levels != (STATE_KINDS,) or self.network is not None or self.attention != ANY
        return self.of_names or of_state or self.remat != AS_IT_IS or bool(self.padding)

    @property
    def of_names(self) -> bool:
        """Whether anything is pinned or forbidden to a name."""
        return bool(self.pinned or self.forbidden)

    def described(self, mesh: DeviceMesh) -> str:
        """`embed=data pinned, vocab=model forbidden`"""
        words = (("pinned", self.pinned), ("forbidden", self.forbidden))
        found = [f"{name}={','.join(mesh.names(mask))} {word}" for word, each in words for name, mask in each.items()]
        kinds = [f"{STORED}={','.join(level)} pinned" for level in self.levels if self.levels != (STATE_KINDS,)]
        found += [f"{REMAT}={','.join(self.remat)} pinned"] if self.remat not in (AS_IT_IS, (ANY,)) else []
        found += [f"{PADDING}={','.join(self.padding)} pinned"] if self.padding not in ((), (ANY,)) else []
        if self.network is not None:
            parts = ",".join(f"{axis}:{part}" for axis, part in self.network)
            found.append(f"{NETWORK}={parts or USUAL} pinned")
        found += [f"{ATTENTION}={self.attention or GATHERED} pinned"] if self.attention != ANY else []
        return ", ".join([*found, *kinds[:1]] if len(self.levels) == 1 else found)

    def allowed(self, space: PlanSpace, shapes: Shapes, sizes: Mapping[str, int], graph: str) -> list[PlanSpace]:
        """The parts of a space that are allowed; together all of it that is.

        Args:
            shapes: names and sizes of everything that is laid out, and its role.
            sizes: of all axes of the graph, which is called `graph`.

        Raises:
            PlanError: the step has no such name, the name has no choice, its mesh axes do not divide it, or no plan is
                left.
        """
        for word, each in (("pin", self.pinned), ("forbid", self.forbidden)):
            for name, mask in each.items():
                _check(word, name, mask, space, sizes, graph)
        choices = [
            each
            for each in space.storage_choices
            if not any(each.mask & self.forbidden.get(name, 0) for name in each.names)
        ]
        options = _without(space.options, self.forbidden)
        found: dict[object, PlanSpace] = {}
        for stored, forbidden, computed in self._ways(space, shapes, choices):
            part = _without(options, forbidden)
            part |= {name: part[name][part[name] == mask] for name, mask in computed.items()}
            if stored and all(len(masks) for masks in part.values()):
                key = (stored, tuple((name, masks.tobytes()) for name, masks in part.items()))
                found.setdefault(key, replace(space, options=part, storage_choices=stored))
        if not found:
            raise errors.nothing_is_allowed(self.described(space.mesh))
        return list(found.values())

    def _ways(self, space: PlanSpace, shapes: Shapes, choices: Sequence[StorageAxes]) -> Iterator[_Way]:
        """The ways to have every pinned name where it is pinned, each with what it forbids to others: all names by what
        they are computed over; or one of them, by a part of it, and stored over the rest."""
        pinned = [(name, mask, None) for name, mask in self.pinned.items()]
        free = tuple(each for each in choices if not {*each.names} & self.pinned.keys())
        yield from _forbidding(pinned, free, space, shapes)
        for i, (name, mask, _) in enumerate(pinned):
            for choice in choices:
                if choice.names == (name,) and choice.mask & ~mask == 0:
                    way = [(each[0], each[1], choice if i == j else None) for j, each in enumerate(pinned)]
                    yield from _forbidding(way, (choice,), space, shapes)

    def reasons(self, found: Mapping[str, str], mesh: DeviceMesh) -> dict[str, str]:
        """The reasons of names, with what was decided beforehand in front."""
        said = {name: f"pinned to {', '.join(mesh.names(mask))}" for name, mask in self.pinned.items()}
        for name, mask in self.forbidden.items():
            also = f"{said[name]}; " if name in said else ""
            said[name] = f"{also}forbidden on {', '.join(mesh.names(mask))}"
        return {name: f"{said[name]}; {why}" if name in said else why for name, why in found.items()}


def _levels(written: str | Sequence[str]) -> tuple[tuple[StateKind, ...], ...]:
    words = _words(written)
    return STAGES if words == [ANY] else (kinds_of(words),)


def _network(written: str | Sequence[str]) -> Words | None:
    words = _words(written)
    if words in ([ANY], []):
        return None
    if words == [USUAL]:
        return ()
    found: list[tuple[str, str]] = []
    for word in words:
        axis, colon, part = word.partition(":")
        if not colon:
            raise errors.pinned_network(word)
        found.append((axis.strip(), part.strip()))
    return tuple(found)


def _attention(written: str | Sequence[str]) -> str:
    word = ",".join(_words(written))
    return ANY if word == ANY else attention_of("" if word == GATHERED else word)


def _words(written: str | Sequence[str]) -> list[str]:
    words = written.split(",") if isinstance(written, str) else list(written)
    return [word.strip() for word in words if word.strip()]


def _masks(word: str, given: Given, mesh: DeviceMesh) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, written in given.items():
        axes = [written] if isinstance(written, str) else list(written)
        for axis in axes:
            if axis not in mesh.axes and word == "forbid" and name in _CHOICES:
                raise errors.choice_forbidden(name)
            if axis not in mesh.axes:
                raise rule_mesh_axis(word, name, axis, mesh.axes)
        found[name] = mesh.mask(axes)
    idle = mesh.mask([axis for axis, size in mesh.as_dict().items() if size == 1])
    return {name: mask & ~idle for name, mask in found.items() if mask & ~idle}


def _check(word: str, name: str, mask: int, space: PlanSpace, sizes: Mapping[str, int], graph: str) -> None:
    if name not in sizes:
        raise errors.constraint_name(word, name, tuple(sizes), graph)
    if word == "forbid":
        return
    mesh = space.mesh
    if int(mesh.fitting(sizes[name])[mask]) != mask:
        where = ",".join(f"{axis}={mesh.as_dict()[axis]}" for axis in mesh.names(mask))
        raise errors.pin_does_not_divide(name, sizes[name], where, int(mesh.group(mask)))
    if name not in space.options:
        raise errors.pin_without_choice(name, space.fixed[name])


def _without(options: Mapping[str, Any], forbidden: Mapping[str, int]) -> dict[str, Any]:
    return {name: masks[(masks & forbidden.get(name, 0)) == 0] for name, masks in options.items()}


def _forbidding(
    pinned: Sequence[tuple[str, int, StorageAxes | None]],
    stored: tuple[StorageAxes, ...],
    space: PlanSpace,
    shapes: Shapes,
) -> Iterator[_Way]:
    """A way to have names where they are pinned, once for each set of other names that must leave them the mesh axes:
    of those that come before a pinned name, or share storage with it, none takes them in at least one shape."""
    computed = {name: mask & ~(choice.mask if choice is not None else 0) for name, mask, choice in pinned}
    sets = [_before(name, choice is not None, space, shapes) for name, _, choice in pinned]
    for others in product(*sets):
        forbidden: dict[str, int] = {}
        for (_, mask, _), each in zip(pinned, others, strict=True):
            forbidden |= {name: forbidden.get(name, 0) | mask for name in each}
        yield stored, forbidden, computed


def _before(name: str, stored: bool, space: PlanSpace, shapes: Shapes) -> list[frozenset[str]]:
    """The smallest sets of names that have a mesh axis before a name has it, over the shapes that it is in."""
    found: set[frozenset[str]] = set()
    for sizes, role in shapes:
        names = [each for each, _ in sizes if each in space.options]
        if any(each == name for each, _ in sizes) and (role == "storage" or not stored):
            order = in_order(dict(sizes), space.order, space.order_where)
            at = order.index(name)
            found.add(frozenset(n for n in names if n != name and (stored or order.index(n) < at)))
    smallest = [each for each in found if not any(other < each for other in found)]
    return sorted(smallest, key=sorted)
