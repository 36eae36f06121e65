"""Holds a document against the dataclasses it is for, and says in one line what does not fit.

draccus does the decoding; this walk comes before it because draccus lets pass what a person did not mean (a null for
a number, `true` for 1, a text for a list of texts) and cannot say where a value was written.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import draccus
import yaml

from levanter.config import errors, kinds
from levanter.config.document import Document, Key
from levanter.errors import UserError, nearest, suggestion
from levanter.user_code import is_file_place


def checked(cls: type, document: Document, options: Sequence[str] = ()) -> dict[str, Any]:
    """The document's values, each known to fit its field of `cls`.

    `options` are other option names of the command, which a mistyped one may have meant.

    Raises:
        UserError: an unknown key, a bad value or a missing one, with its place and the nearest right name.
    """
    return _Checker(cls, document, options).section(cls, document.values, ())


class _Checker:
    def __init__(self, root: type, document: Document, options: Sequence[str]) -> None:
        self.root, self.document, self.options = root, document, options

    def section(self, kind: type, values: Mapping[str, Any], path: Key) -> dict[str, Any]:
        cls = self.choice(kind, values, path) if kinds.is_choice(kind) else kind
        fields, defaults = kinds.members(cls), kinds.defaults(cls)
        result = {}
        for key, value in values.items():
            here = (*path, str(key))
            if key == "type" and kinds.is_choice(kind):
                result[key] = value
            elif key not in fields:
                raise self.unknown(here, kind, cls)
            else:
                result[key] = self.value(fields[key], value, here, defaults.get(key))
        for key in fields:
            if key not in values and key not in defaults:
                raise errors.missing_key(".".join(path), key, self.document.mark(path).where)
        return result

    def choice(self, kind: Any, values: Mapping[str, Any], path: Key) -> type:
        known = kinds.choices(kind)
        name = values.get("type", kind.default_choice_name())
        if name is None:
            raise errors.missing_key(".".join(path), "type", self.document.mark(path).where)
        if not isinstance(name, str) or name not in known:
            here = (*path, "type")
            raise errors.unknown_choice(self.name(here), self.document.mark(here).where, str(name), known)
        return known[name] if name in list(known) else self.own(kind, name, (*path, "type"))

    def own(self, kind: Any, place: str, path: Key) -> type:
        """The class at a place of the user's, for a section of the kind `kind`."""
        file, _, name = place.rpartition(":")
        if is_file_place(place) and not Path(file).is_file():
            option = f"--{'.'.join(path)} PATH/{Path(file).name}:{name}"
            raise errors.own_file_missing(self.name(path), self.document.mark(path).where, file, option)
        try:
            return kind.get_choice_class(place)
        except UserError as error:
            raise errors.in_place(self.name(path), self.document.mark(path).where, error) from error

    def value(self, kind: Any, value: Any, path: Key, default: Any) -> Any:
        inner, allowed = kinds.section(kind), kinds.alternatives(kind)
        if value == "" and str in allowed:
            raise errors.empty_text(self.name(path), self.document.mark(path).where, type(None) in allowed)
        if value is None and type(None) in allowed:
            return None
        if inner is not None and isinstance(value, Mapping):
            return self.section(inner, value, path)
        if isinstance(value, Mapping) and (each := _values(allowed)) is not None:
            return {str(name): self.value(each, one, (*path, str(name)), None) for name, one in value.items()}
        if str in allowed and isinstance(value, bool | int | float) and not {bool, int, float} & set(allowed):
            return self.text(value, path)
        if isinstance(value, list):
            item = next((typing.get_args(member) for member in allowed if _is_list(member)), None)
            if item:
                return [self.value(item[0], each, (*path, str(i)), None) for i, each in enumerate(value)]
        if inner is not None or not _fits(kind, value):
            mark = self.document.mark(path)
            expected = kinds.in_words(kind, default)
            raise errors.bad_value(self.name(path), mark.where, expected, self.text(value, path))
        return value

    def text(self, value: Any, path: Key) -> str:
        """The value as its user wrote it, where that is known (`012` reads as 12), or in YAML."""
        written = self.document.marks.get(path)
        if written and written.text:
            return written.text
        return yaml.safe_dump(value, default_flow_style=True, explicit_end=False).removesuffix("...\n").strip()

    def name(self, path: Key) -> str:
        """The key as its user wrote it: an option where it came from the command line."""
        return ("--" if self.document.mark(path).option else "") + ".".join(path)

    def unknown(self, path: Key, kind: type, cls: type) -> Exception:
        """The error for a key that `cls`, which is `kind` or its choice, does not have."""
        key, mark, known = path[-1], self.document.mark(path), kinds.choices(kind)
        owner = next((name for name, choice in known.items() if key in kinds.members(choice)), None)
        siblings = [*kinds.members(cls), "type"] if kinds.is_choice(kind) else list(kinds.members(cls))
        if owner is not None:
            own = kind.get_choice_name(cls)  # type: ignore[attr-defined]
            fix = f"it is a field of type `{owner}`, and this section is of type `{own}`"
        elif not mark.option and "." in key:
            fix = f"in a file keys are nested: write `{key.split('.')[0]}:` and the rest below it"
        elif meant := self.meant(path, siblings, bool(mark.option)):
            fix = f"did you mean `{'--' if mark.option else ''}{meant}`?"
        else:
            fix = suggestion(key, siblings)
        return errors.unknown_key(self.name(path), mark.where, fix)

    def meant(self, path: Key, siblings: Sequence[str], option: bool) -> str | None:
        """The nearest name: beside the key, among the command's options, or the same key in another section."""
        if sibling := nearest(path[-1], siblings):
            return ".".join((*path[:-1], sibling))
        if option and len(path) == 1 and (other := nearest(path[0], self.options)):
            return other
        every = kinds.dotted_names(self.root)
        by_last = {name.rpartition(".")[2]: name for name in reversed(every)}
        last = nearest(path[-1], by_last)
        return by_last[last] if last else None


def _values(allowed: Sequence[Any]) -> Any:
    """The kind of the values of a mapping that a field may hold; None where it holds none."""
    found = [typing.get_args(member) for member in allowed if typing.get_origin(member) is dict]
    return found[0][1] if found else None


def _is_list(kind: Any) -> bool:
    return (typing.get_origin(kind) or kind) in (list, tuple, set, frozenset)


def _fits(kind: Any, value: Any) -> bool:
    allowed = kinds.alternatives(kind)
    if value is None or (isinstance(value, bool) and bool not in allowed):
        return False
    if isinstance(value, list) != any(_is_list(member) for member in allowed):
        return False
    if isinstance(value, Mapping) != any((typing.get_origin(member) or member) is dict for member in allowed):
        return False
    try:
        draccus.decode(kind, value)
    except Exception:
        # draccus raises many types here, bare Exception among them; each means that the value does not fit.
        return False
    return True
