"""Columns by name, those below others too: `meta.text` is `text` of `meta`, unless a column has that whole name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any


def path_of(column: str, known: Collection[str]) -> list[str]:
    """The names that lead to a column, the first of them one of `known` where there is such a way."""
    parts = column.split(".")
    for size in range(len(parts), 0, -1):
        if (first := ".".join(parts[:size])) in known:
            return [first, *parts[size:]]
    return [column]


def value_at(row: Any, column: str) -> Any:
    """The value of a column in an object of JSON.

    Raises:
        KeyError: it has none.
        TypeError: it is not an object.
    """
    if not isinstance(row, dict):
        raise TypeError
    first, *rest = path_of(column, row)
    found = row[first]
    if not rest:
        return found
    if not isinstance(found, dict):
        raise KeyError(column)
    return value_at(found, ".".join(rest))


def names_in(row: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The names of all columns of an object of JSON that have no others below them."""
    for name, value in row.items():
        if isinstance(value, dict) and value:
            yield from names_in(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def arrow_names(fields: Any, before: str = "") -> Iterator[str]:
    """The same for the fields of an Arrow schema or of a struct type."""
    for field in fields:
        below = [field.type.field(at) for at in range(field.type.num_fields)] if _is_struct(field.type) else []
        if below:
            yield from arrow_names(below, f"{before}{field.name}.")
        else:
            yield f"{before}{field.name}"


def arrow_path(fields: Any, column: str) -> list[str]:
    """The names that lead to a column of an Arrow schema or of a struct type, where there is such a way."""
    kinds = {field.name: field.type for field in fields}
    first, *rest = path_of(column, kinds)
    if not rest or not _is_struct(kind := kinds[first]):
        return [first, *rest]
    inside = [kind.field(at) for at in range(kind.num_fields)]
    return [first, *arrow_path(inside, ".".join(rest))]


def has_arrow(schema: Any, path: Sequence[str]) -> bool:
    """Whether an Arrow schema has a column."""
    fields = {field.name: field.type for field in schema}
    for place, name in enumerate(path):
        if name not in fields:
            return False
        kind = fields[name]
        last = place == len(path) - 1
        if not last and not _is_struct(kind):
            return False
        fields = {} if last else {kind.field(at).name: kind.field(at).type for at in range(kind.num_fields)}
    return True


def arrow_column(batch: Any, path: Sequence[str]) -> Any:
    """The column of an Arrow table or batch; null where one above it is."""
    column = batch.column(path[0])
    if len(path) == 1:
        return column
    compute: Any = import_module("pyarrow.compute")  # which takes a while, and few runs need it
    return compute.struct_field(column, list(path[1:]))


def _is_struct(kind: Any) -> bool:
    return str(kind).startswith("struct<")
