"""What is wrong with sharding rules for a step: what is silently replicated, which rule never applies, which pair
conflicts, what does not divide, which scan eats a mesh axis, and which norm is gathered for nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from passes.errors import nearest_name
from passes.foreign import wording
from passes.foreign.names import ACTIVATION, NAMES, is_mesh_axis_elsewhere
from passes.foreign.rules import Array, ForeignRules, Layout, Rule, Tried, concerned, layout
from passes.report.units import format_bytes, format_percent


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: which kind: conflict, divide, scan, vector, replicated, never, mesh, unused, batch or memory.
        where: file and line of the rule; of several the first.
        what, fix: sentences.
        arrays: parameters that it is about, the largest first.
    """

    code: str
    where: str
    what: str
    fix: str
    arrays: tuple[str, ...] = ()


@dataclass(frozen=True)
class Held:
    """Rules held against a step.

    Attributes:
        parameters: all of the step; `activations` are one of each shape; `batch` is the leading axis of its data.
        best: mesh axes by name, at rest, of the planner's best, for hints.
    """

    rules: ForeignRules
    mesh: Mapping[str, int]
    parameters: Sequence[Array]
    activations: Sequence[Array]
    batch: str | None = None
    best: Mapping[str, Sequence[str]] | None = None

    @property
    def devices(self) -> int:
        return math.prod(self.mesh.values())

    @cached_property
    def at_rest(self) -> list[tuple[Array, Layout]]:
        """Every parameter as it is stored."""
        return [(each, layout(self.rules, each, "parameters", self.mesh)) for each in self.parameters]

    @cached_property
    def in_use(self) -> list[tuple[Array, Layout]]:
        """Everything that is computed with, parameters in use among it."""
        return [
            (each, layout(self.rules, each, "activations", self.mesh)) for each in (*self.activations, *self.parameters)
        ]

    @cached_property
    def tried(self) -> list[tuple[Array, Tried]]:
        """What became of every rule everywhere."""
        return [(array, each) for array, found in (*self.at_rest, *self.in_use) for each in found.tried]

    def real(self, axes: Sequence[str]) -> tuple[str, ...]:
        """Those mesh axes that have more than one device."""
        return tuple(axis for axis in axes if self.mesh.get(axis, 1) > 1)

    def findings(self) -> list[Finding]:
        """All that is wrong, in the order of the file for each kind."""
        kinds = (_mesh, _unnamed, _scans, _conflicts, _undivided, _vectors, _never, _replicated, _unused, _batch)
        return [finding for kind in kinds for finding in kind(self)]


def shown(rule: Rule) -> str:
    """A rule as the file has it."""
    return wording.written(rule.name, rule.axes)


def _mesh(held: Held) -> Iterator[Finding]:
    rules = held.rules
    unknown = dict.fromkeys(axis for rule in rules.rules for axis in rule.axes if axis not in held.mesh)
    for axis in unknown:
        if axis in rules.mesh_axes or is_mesh_axis_elsewhere(axis, rules.dialect):
            continue
        named = [rule for rule in rules.rules if axis in rule.axes]
        mesh = ", ".join(f"{name}={size}" for name, size in held.mesh.items())
        close = nearest_name(axis, list(held.mesh))
        what, fix = wording.unknown_mesh_axis(axis, mesh, list(dict.fromkeys(rule.name for rule in named)), close)
        yield Finding("mesh", named[0].where, what, fix)


def _unnamed(held: Held) -> Iterator[Finding]:
    known = list(dict.fromkeys(name for each in (*held.parameters, *held.activations) for name in each.sizes))
    known += [name for name, meaning in NAMES.items() if any(each in known for each in meaning.ours)]
    paths = [each.path or "" for each in held.parameters]
    for rule in held.rules.unknown:
        if held.rules.dialect == "transformers":
            said = wording.never_matched(rule.name)
        elif held.rules.dialect == "partition-specs":
            said = wording.never_path(rule.name, nearest_name(rule.name, paths))
        else:
            prefix = ACTIVATION if rule.name.startswith(ACTIVATION) else ""
            said = wording.never_named(shown(rule), nearest_name(rule.name, [prefix + name for name in known]))
        yield Finding("never", rule.where, *said)


def _by_rule(rows: Sequence[tuple[Array, Tried]]) -> dict[tuple[str, str, str], list[tuple[Array, Tried]]]:
    """Rows of one line and name together; equal arrays once."""
    found: dict[tuple[str, str, str], dict[tuple[object, ...], tuple[Array, Tried]]] = {}
    for array, each in rows:
        key = (each.rule.where, each.rule.name if held_by_name(each.rule) else "", each.name)
        found.setdefault(key, {})[array.path, tuple(array.sizes.items())] = (array, each)
    return {key: list(rows.values()) for key, rows in found.items()}


def held_by_name(rule: Rule) -> bool:
    """Whether a rule is about a name, and not about single parameters."""
    return rule.paths is None


def _largest(arrays: Sequence[Array]) -> list[Array]:
    """Parameters first, the largest first, equal ones in their order."""
    return sorted(arrays, key=lambda each: (each.path is None, -each.bytes))


def _paths(arrays: Sequence[Array]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.path for each in _largest(arrays) if each.path))


def _scans(held: Held) -> Iterator[Finding]:
    rows = [(array, each) for array, each in held.tried if each.name in array.scanned and held.real(each.rule.axes)]
    for (where, _, name), found in _by_rule([row for row in rows if row[1].outcome != "taken"]).items():
        arrays = [array for array, _ in found if array.path]
        if not arrays:
            continue
        rule = found[0][1].rule
        losers = dict.fromkeys(
            each.rule.name if held_by_name(each.rule) else each.name
            for _, each in held.tried
            if each.outcome == "taken" and each.by is not None and each.by.where == where and each.by_name == name
        )
        said = wording.scanned(shown(rule), name, held.real(rule.axes), len(arrays), len(held.parameters), list(losers))
        yield Finding("scan", where, *said, _paths(arrays))


def _conflicts(held: Held) -> Iterator[Finding]:
    """Axes of one array that want one mesh axis. Where rules have an order, that is how they are meant, unless a
    parameter is left whole."""
    ordered = held.rules.whole_rules
    groups: dict[tuple[str, tuple[str, ...]], list[tuple[Array, Tried]]] = {}
    pools = held.at_rest if held.rules.in_order("activations") else [*held.at_rest, *held.in_use]
    for array, found in pools:
        for each in found.tried:
            lost = not ordered or (each.name not in found.axes and array.sort != "vector")
            if each.outcome != "taken" or each.by is None or not lost or {each.name, each.by_name} & array.scanned:
                continue
            for axis in held.real([axis for axis in each.rule.axes if axis in each.by.axes]):
                key = (axis, _pair(each) if ordered else ())
                groups.setdefault(key, []).append((array, each))
    for (axis, _), rows in groups.items():
        arrays = list({(array.path, tuple(array.sizes.items())): array for array, _ in rows}.values())
        names = list(dict.fromkeys(name for _, each in rows for name in _pair(each)))
        uses = {
            name: sum(name in each.sizes for each in held.parameters) for _, e in rows for name in (e.name, e.by_name)
        }
        keep = max(uses, key=lambda name: uses[name])
        kept = next(
            (
                rule.name
                for _, e in rows
                for rule, name in ((e.rule, e.name), (e.by, e.by_name))
                if rule and name == keep
            ),
            keep,
        )
        first = min((each.rule.where for _, each in rows), key=_line)
        example = _largest(arrays)[0].shown()
        kept = kept if held_by_name(rows[0][1].rule) else keep
        has = f"{uses[keep]} of {len(held.parameters)}"
        said = wording.conflict(names, axis, len(arrays), example, kept, has, not ordered)
        yield Finding("conflict", first, *said, _paths(arrays))


def _pair(each: Tried) -> tuple[str, str]:
    assert each.by is not None
    return (each.by.name, each.rule.name) if held_by_name(each.rule) else (each.by_name, each.name)


def _line(where: str) -> tuple[int, str]:
    last = where.rpartition(":")[2]
    return (int(last) if last.isdigit() else 0, where)


def _undivided(held: Held) -> Iterator[Finding]:
    rows = [(a, each) for a, each in held.tried if each.outcome == "undivided" and each.name not in a.scanned]
    for (where, _, name), found in _by_rule(rows).items():
        axes = held.real(found[0][1].rule.axes)
        group = math.prod(held.mesh[axis] for axis in axes)
        arrays = [array for array, _ in found if array.sizes[name] == found[0][0].sizes[name]]
        size = arrays[0].sizes[name]
        over = ", ".join(f"{axis}={held.mesh[axis]}" for axis in axes)
        legal = [each for each in (size // group * group, -(-size // group) * group) if each]
        example = _largest(arrays)[0].shown()
        said = wording.undivided(name, f"{size:,}", over, group, legal, len(arrays), example)
        yield Finding("divide", where, *said, _paths(arrays))


def _vectors(held: Held) -> Iterator[Finding]:
    """Scales of norms that alone follow a rule onto a mesh axis that shards other axes in use."""
    used = {
        axis: {name for array, found in held.in_use for name in array.sizes if axis in found.axes.get(name, ())}
        for axis in held.mesh
    }
    whole = {array.path: found for array, found in held.in_use if array.path}
    groups: dict[tuple[str, str], list[tuple[Array, Tried]]] = {}
    for array, found in held.at_rest:
        for each in found.tried:
            for axis in held.real(each.rule.axes) if each.outcome == "given" else ():
                groups.setdefault((each.rule.where, axis), []).append((array, each))
    for (where, axis), rows in groups.items():
        arrays = [array for array, _ in rows]
        name = rows[0][1].name
        other = used.get(axis, set()) - {name, held.batch}
        gathered = all(axis not in whole[array.path].axes.get(name, ()) for array in arrays if array.path in whole)
        if all(array.sort == "vector" for array in arrays) and other and gathered and held_by_name(rows[0][1].rule):
            total = format_bytes(sum(array.bytes for array in arrays))
            example = _largest(arrays)[0].shown()
            said = wording.vectors(shown(rows[0][1].rule), axis, len(arrays), example, total)
            yield Finding("vector", where, *said, _paths(arrays))


def _never(held: Held) -> Iterator[Finding]:
    """Rules that lose everywhere. One that is a second choice may, and one whose second choice has what it wanted."""
    tried: dict[tuple[str, str], list[Tried]] = {}
    missed: set[tuple[str, str]] = set()
    for _, found in (*held.at_rest, *held.in_use):
        for each in found.tried:
            key = each.rule.where, each.rule.name
            tried.setdefault(key, []).append(each)
            if not {*held.real(each.rule.axes)} <= {*found.axes.get(each.name, ())}:
                missed.add(key)
    seen: set[str] = set()
    for rule in held.rules.rules:
        rows = tried.get((rule.where, rule.name), [])
        later = held.rules.whole_rules and rule.name in seen
        seen.add(rule.name)
        if not held.real(rule.axes) or later or not rows or any(each.outcome != "taken" for each in rows):
            continue
        by = next(each for each in rows if each.by is not None)
        assert by.by is not None
        if not held_by_name(rule) or (rule.where, rule.name) not in missed:
            continue
        axis = next(axis for axis in rule.axes if axis in by.by.axes)
        yield Finding("never", rule.where, *wording.never_taken(shown(rule), by.name, by.by_name, shown(by.by), axis))


def _replicated(held: Held) -> Iterator[Finding]:
    """Parameters of more than one axis that no rule shards, and none says null for."""
    found: list[Array] = []
    for array, laid in held.at_rest:
        own = [name for name in array.sizes if name not in array.scanned]
        said = all(any(name in rule.names for rule in _about(held.rules, array)) for name in own)
        if array.sort != "vector" and not any(laid.axes.values()) and not said and not _refused(laid):
            found.append(array)
    if not found or held.devices == 1:
        return
    total, size = sum(each.bytes for each in held.parameters), sum(each.bytes for each in found)
    largest = _largest(found)[0]
    share = format_percent(size, total)
    said = wording.replicated(
        len(found), len(held.parameters), format_bytes(size), share, held.devices, largest.shown(), _hint(held, largest)
    )
    yield Finding("replicated", held.rules.source, *said, _paths(found))


def _about(rules: ForeignRules, array: Array) -> list[Rule]:
    return [rule for rule in rules.rules if rule.concerns("parameters") and concerned(rule, array)]


def _refused(laid: Layout) -> bool:
    return any(each.outcome != "given" for each in laid.tried)


def _hint(held: Held, array: Array) -> str:
    """A rule that would shard an array: the planner's, or the first that divides."""
    for name, axes in (held.best or {}).items():
        if name in array.sizes and name not in array.scanned and axes:
            return wording.written(name, axes)
    for axis, size in held.mesh.items():
        for name, length in array.sizes.items():
            if size > 1 and length % size == 0 and name not in array.scanned:
                return wording.written(name, (axis,))
    return "a smaller mesh axis"


def _unused(held: Held) -> Iterator[Finding]:
    wanted = {axis for rule in held.rules.rules for axis in rule.axes}
    for axis, size in held.mesh.items():
        if size > 1 and axis not in wanted:
            yield Finding("unused", held.rules.source, *wording.unused_axis(axis, size))


def _batch(held: Held) -> Iterator[Finding]:
    """Mesh axes that store and compute nothing."""
    kept, used = (
        {axis for _, found in rows for axes in found.axes.values() for axis in axes}
        for rows in (held.at_rest, held.in_use)
    )
    for axis, size in held.mesh.items():
        if held.batch is not None and axis in kept - used:
            yield Finding("batch", held.rules.source, *wording.whole_batch(held.batch, axis, size))
