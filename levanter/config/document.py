"""YAML files as nested dictionaries that remember where every value was written.

A file may build on another with `extends: base.yaml` (a path beside the file): its own values win, section by section.
A section that names another `type` than the base replaces the base's whole section, since the fields of the old type
mean nothing to the new one; so does one that names another checkpoint to start from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from levanter import user_code
from levanter.config import errors
from levanter.errors import nearest

Key = tuple[str, ...]

_CHECKPOINT = "initialize_from"


@dataclass(frozen=True)
class Mark:
    """Where a value was written: `where` is a file and a line, or empty for the command line, which has `option`."""

    where: str
    text: str | None = None
    option: str | None = None


@dataclass(frozen=True)
class Document:
    """Values as nested dictionaries, and the mark of each by its path of keys."""

    values: dict[str, Any] = field(default_factory=dict)
    marks: dict[Key, Mark] = field(default_factory=dict)

    def mark(self, path: Key) -> Mark:
        """The mark of the value at `path`, of the first value below it, or of the nearest section around it."""
        below = (key for key in self.marks if key[: len(path)] == path)
        around = (path[:end] for end in range(len(path) - 1, 0, -1))
        found = next((key for key in (path, *below, *around) if key in self.marks), None)
        return self.marks[found] if found else Mark("")

    def updated(self, other: Document) -> Document:
        """This document with the values of `other` over it."""
        return Document(_merged(self.values, other.values), {**self.marks, **other.marks})

    def anchored(self, folder: Path) -> Document:
        """This document with every `type: path/to/file.py:Class`, and the file of `trainer.plan`, as seen from
        `folder`, where it was written."""
        values = _anchored(self.values, folder)
        trainer = values.get("trainer")
        if isinstance(trainer, Mapping) and isinstance(trainer.get("plan"), str) and trainer["plan"]:
            values["trainer"] = {**trainer, "plan": str(folder / Path(trainer["plan"]).expanduser())}
        return Document(values, self.marks)


def read(path: Path) -> Document:
    """The document in the file at `path`, over the documents that it extends.

    Raises:
        UserError: a file is missing, is not valid YAML, gives a key twice, or extends itself.
    """
    return _read(path, mentioned="", outer=())


def parse(text: str, name: str) -> Document:
    """The document in `text`, which messages call `name`; it extends nothing.

    Raises:
        UserError: it is not valid YAML, is no mapping, or gives a key twice.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None or node.tag == "tag:yaml.org,2002:null":
            return Document()
        if not isinstance(node, yaml.MappingNode):
            raise errors.not_a_mapping(name)
        marks: dict[Key, Mark] = {}
        _collect(node, (), name, marks, ())
        return Document(loader.construct_document(node), marks)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise errors.invalid_yaml(where, error.problem or error.context or "it cannot be read") from None
    except yaml.YAMLError as error:
        raise errors.invalid_yaml(name, str(error).splitlines()[0]) from None


def parse_value(text: str) -> Any:
    """A value as it would be read from a file; text that is not valid YAML stands for itself."""
    try:
        return yaml.load(text, _Loader) if text else text
    except yaml.YAMLError:
        return text


def display(path: Path | str) -> str:
    """The path as people know it: relative to the working directory where it lies below it."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd().resolve()))
    except (ValueError, OSError):
        return str(path)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-3` is a number, and `no`, `on`, `012` and `1:30` are not something surprising."""

    yaml_implicit_resolvers = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]*\.[0-9]+|[0-9]+\.|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def _read(path: Path, mentioned: str, outer: tuple[Path, ...]) -> Document:
    resolved = path.resolve()
    if resolved in outer:
        circle = outer[outer.index(resolved) :]
        raise errors.extends_circle([display(file) for file in (*circle, resolved)])
    document = parse(_text(path, mentioned), display(path)).anchored(path.parent)
    if "extends" not in document.values:
        return document
    base, where = document.values.pop("extends"), document.marks.pop(("extends",)).where
    if not isinstance(base, str) or not base:
        raise errors.bad_extends(where)
    return _read(path.parent / base, where, (*outer, resolved)).updated(document)


def _text(path: Path, mentioned: str) -> str:
    name = display(path)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = {file.name for file in path.parent.glob("*.y*ml")} if path.parent.is_dir() else set()
        near = nearest(path.name, siblings) or nearest(path.stem, {Path(file).stem for file in siblings})
        found = next((file for file in sorted(siblings) if near in (file, Path(file).stem)), None)
        raise errors.missing_file(name, mentioned, found and display(path.parent / found)) from None
    except UnicodeDecodeError:
        raise errors.unreadable_file(name, "it is not UTF-8 text") from None
    except OSError as error:
        raise errors.unreadable_file(name, (error.strerror or str(error)).lower()) from None


def _collect(node: yaml.Node, path: Key, name: str, marks: dict[Key, Mark], outer: tuple[int, ...]) -> None:
    """Mark every value below a mapping; a key given twice is an error, which YAML itself lets pass."""
    if not isinstance(node, yaml.MappingNode):
        return
    if id(node) in outer:
        raise errors.recursive_alias(f"{name}:{node.start_mark.line + 1}")
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = (*path, key_node.value)
        if key_node.value in first:
            raise errors.duplicate_key(".".join(key), f"{name}:{line}", f"line {first[key_node.value]}")
        first[key_node.value] = line
        text = value_node.value if isinstance(value_node, yaml.ScalarNode) else None
        marks[key] = Mark(f"{name}:{line}", text)
        _collect(value_node, key, name, marks, (*outer, id(node)))


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(base)
    for key, value in over.items():
        old = values.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not _other_type(old, value):
            values[key] = _merged(old, value)
        else:
            values[key] = value
    return values


def _anchored(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return {
        key: _anchored(value, folder)
        if isinstance(value, Mapping)
        else user_code.anchored(value, folder)
        if key == "type" and isinstance(value, str)
        else value
        for key, value in values.items()
    }


def _other_type(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    first, second = (user_code.without_folder(values.get("type")) for values in (old, new))
    if first is not None and second is not None and first != second:
        return True
    checkpoint = new.get(_CHECKPOINT)
    return first is not None and checkpoint is not None and checkpoint != old.get(_CHECKPOINT)
