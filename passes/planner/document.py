"""A plan as a document: a short YAML file that lives beside the configuration, is reviewed, edited and read again.

    model: gpt2_nano
    mesh: data=4,model=2
    hardware: v5e
    sizes: {batch: 16, mlp: 256, vocab: 50304}
    compute:
      batch: [data]
      mlp: [model]
    storage:
      vocab: [data]
    regather: false
    defer_sums: auto
    hoist_gathers: auto

The file says the same as the plan, byte by byte the same for equal plans; what is predicted stands in comments. Nothing
here imports JAX: a configuration reads its plan before JAX is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from textwrap import wrap
from typing import Any

import yaml

from passes.errors import PlanError, not_yaml
from passes.planner import errors
from passes.planner.attention import ATTENTION, attention_of
from passes.planner.remat import WORDS, remat_of
from passes.sharding.mesh import DeviceMesh
from passes.sharding.state import STATE_KINDS, kinds_of
from passes.yaml_text import composed

_yaml: Any = yaml

WIDTH = 100
CHOICES = {"auto": None, "true": True, "false": False}
"""The words of a choice that memory may be left to make, and what a plan has for each."""
SHORT_DTYPES = ("float32", "bfloat16")
DTYPES = ("moments", "gradients")
"""The fields of a plan that are dtypes."""
CHOICES_OF_MEMORY = ("regather", "defer_sums", "hoist_gathers")
"""The fields of a plan that are such choices."""

_MEANINGS = {
    "compute": "What each name is sharded over in use. Where two names of one array want the same mesh axis, the upper "
    "one has it.",
    "order": "Where an array or an operation has the name on the left and all of those on the right, these take mesh "
    "axes first, in this order.",
    "storage": "What is added at rest: in parameters, gradients and optimizer state (FSDP).",
    "stored": "Which of these it is added in: all three (ZeRO-3), gradients and optimizer (ZeRO-2), or optimizer "
    "(ZeRO-1).",
    "network": "Which part of the physical network each mesh axis has: devices along each dim of a slice, or in a "
    "node, and over how many of these it goes. Of axes that share a dim the lower one has neighbours.",
    "padding": "What axes are padded to where they are computed with, so that mesh axes divide them. State keeps its "
    "size.",
    "remat": "What the backward pass computes again: none of what it reads, full for all that loops over layers make, "
    "or names whose products are kept, the rest being computed again.",
    ATTENTION: "How attention is computed where its queries' positions are sharded: in a ring, in which keys go from "
    "device to device; without this line keys and values are gathered.",
    "microbatches": "Parts of a batch whose gradients are made one after another and added.",
    "moments": "What the optimizer keeps its running means of gradients in, between steps.",
    "gradients": "What gradients are summed and kept in until the update.",
    "regather": "Whether parameters are gathered again in the backward pass (true) or kept from the forward pass "
    "(false); auto keeps them where there is room.",
    "defer_sums": "Whether gradients that a loop adds up are reduced once, after it; auto does as many as there is "
    "room for.",
    "hoist_gathers": "Whether what each trip of a loop would gather is gathered once, before it; auto does as many as "
    "there is room for.",
}


@dataclass(frozen=True)
class PlanDocument:
    """What a file says of a plan."""

    mesh: str
    """Device mesh, such as data=4,model=2."""
    compute: dict[str, list[str]] = field(default_factory=dict[str, "list[str]"])
    """Mesh axes that each name is sharded over in use, in priority order."""
    storage: dict[str, list[str]] = field(default_factory=dict[str, "list[str]"])
    """Mesh axes that are added at rest."""
    hardware: str = "v5e"
    """The chip that the plan was made for."""
    model: str | None = None
    """The step that the plan was made for; null where that has no name."""
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    """Sizes of the axes that are sharded, as they were then."""
    regather: str = "auto"
    """Whether parameters are gathered again in the backward pass: true, false, or auto for where there is no room."""
    defer_sums: str = "auto"
    """Whether gradients that a loop adds up are reduced once, after it: true, false, or auto for where it fits."""
    hoist_gathers: str = "auto"
    """Whether trips of a loop share what they gather: true, false, or auto for where it fits."""
    stored: list[str] = field(default_factory=lambda: list(STATE_KINDS))
    """The kinds of state that `storage` shards: parameters, gradients and optimizer, or some of them."""
    order: dict[str, list[str]] = field(default_factory=dict[str, "list[str]"])
    """Where an array has the name on the left and all of those on the right, these take mesh axes first, in order."""
    remat: list[str] = field(default_factory=list[str])
    """What the backward pass computes again: none, full, or names that are kept; left out, as the step has it."""
    microbatches: int | None = None
    """Parts of a batch that are computed one after another; left out, as the configuration says."""
    moments: str | None = None
    """What the optimizer keeps its running means in, float32 or bfloat16; left out, as the configuration says."""
    gradients: str | None = None
    """What gradients are summed and kept in, float32 or bfloat16; left out, as the configuration says."""
    padding: dict[str, int] = field(default_factory=dict[str, int])
    """Sizes that axes are padded to, so that mesh axes divide them."""
    network: dict[str, str] = field(default_factory=dict[str, str])
    """The part of the physical network that each mesh axis has, outermost first; left out, the usual one."""
    attention: str | None = None
    """How attention is computed where positions are sharded: ring; left out, keys and values are gathered."""
    source: str = "plan.yaml"
    """The file that the plan was read from, as messages call it."""

    def __post_init__(self) -> None:
        """Raises `PlanError` for a bad mesh, a mesh axis that there is not, and a bad choice."""
        mesh = self.device_mesh
        for role, rules in (("compute", self.compute), ("storage", self.storage)):
            for name, axes in rules.items():
                for axis in axes:
                    if axis not in mesh.axes:
                        raise errors.document_mesh_axis(self.source, role, name, axis, mesh.axes)
                if len(set(axes)) < len(axes):
                    raise errors.document_axis_twice(self.source, role, name, axes)
        try:
            kinds_of(self.stored)
            remat_of(self.remat)
            attention_of(self.attention or "")
        except PlanError as error:
            raise errors.in_document(self.source, error) from None
        if self.microbatches is not None and self.microbatches < 1:
            expected = _EXPECTED["microbatches"]
            raise errors.document_value(self.source, "microbatches", str(self.microbatches), expected)
        for key in DTYPES:
            if getattr(self, key) not in (None, *SHORT_DTYPES):
                raise errors.document_value(self.source, key, getattr(self, key), _EXPECTED[key])
        for key in CHOICES_OF_MEMORY:
            if getattr(self, key) not in CHOICES:
                raise errors.document_choice(self.source, key, getattr(self, key), tuple(CHOICES))

    @cached_property
    def device_mesh(self) -> DeviceMesh:
        """The mesh, its axes in the order in which they are written. Raises `PlanError` where it is none."""
        parts = [part.partition("=") for part in self.mesh.split(",")]
        named = all(name.strip() and size.strip().isdigit() for name, _, size in parts)
        try:
            return DeviceMesh.of({name.strip(): int(size) for name, _, size in parts} if named else self.mesh)
        except PlanError as error:
            raise errors.in_document(self.source, error) from None

    @property
    def choices(self) -> dict[str, bool | None]:
        """What the plan has for each choice that memory may be left to make."""
        return {key: CHOICES[getattr(self, key)] for key in CHOICES_OF_MEMORY}


def choice_word(value: bool | None) -> str:
    """The word of a choice."""
    return next(word for word, each in CHOICES.items() if each is value)


def text_of(document: PlanDocument, heading: Sequence[str] = (), reasons: Mapping[str, str] | None = None) -> str:
    """The text of the file.

    Args:
        heading: sentences on top, as comments; each starts a line.
        reasons: of each name why it is sharded as it is, for a comment behind it.
    """
    return "\n".join(_lines(document, heading, reasons or {})) + "\n"


def _lines(document: PlanDocument, heading: Sequence[str], reasons: Mapping[str, str]) -> Iterator[str]:
    for sentence in heading:
        yield from _comment(sentence) if sentence else ("#",)
    if document.model:
        yield f"model: {_scalar(document.model)}"
    yield f"mesh: {_scalar(document.mesh)}"
    yield f"hardware: {_scalar(document.hardware)}"
    yield f"sizes: {_flow(document.sizes)}"
    for role, rules in (("compute", document.compute), ("storage", document.storage)):
        yield ""
        yield from _comment(_MEANINGS[role])
        yield f"{role}:" if rules else f"{role}: {{}}"
        written = [f"  {_scalar(name)}: {_flow(axes)}" for name, axes in rules.items()]
        margin = max(map(len, written), default=0)
        for name, line in zip(rules, written, strict=True):
            why = "" if role == "storage" and name in document.compute else reasons.get(name, "")
            yield f"{line:<{margin}}  # {why}" if why else line
    if document.order:
        yield ""
        yield from _comment(_MEANINGS["order"])
        why = reasons.get("order", "")
        yield f"order: {_flow(document.order)}{f'  # {why}' if why else ''}"
    if document.storage or document.stored != list(STATE_KINDS):
        yield ""
        yield from _comment(_MEANINGS["stored"])
        yield f"stored: {_flow(document.stored)}"
    if document.network:
        yield ""
        yield from _comment(_MEANINGS["network"])
        why = reasons.get("network", "") if "network" not in document.sizes else ""
        parts = {axis: int(part) if part.isdigit() else part for axis, part in document.network.items()}
        yield f"network: {_flow(parts)}{f'  # {why}' if why else ''}"
    if document.padding:
        yield ""
        yield from _comment(_MEANINGS["padding"])
        why = reasons.get("padding", "") if "padding" not in document.sizes else ""
        yield f"padding: {_flow(document.padding)}{f'  # {why}' if why else ''}"
    for key, written in (
        (ATTENTION, document.attention),
        ("remat", _words_of_remat(document)),
        ("microbatches", document.microbatches),
        ("moments", document.moments),
        ("gradients", document.gradients),
    ):
        if written:
            yield ""
            yield from _comment(_MEANINGS[key])
            why = reasons.get(key, "") if key != "microbatches" and key not in document.sizes else ""
            yield f"{key}: {written}  # {why}" if why else f"{key}: {written}"
    for key in CHOICES_OF_MEMORY:
        yield ""
        yield from _comment(_MEANINGS[key])
        yield f"{key}: {getattr(document, key)}"


def _words_of_remat(document: PlanDocument) -> str:
    words = document.remat
    return (words[0] if words[0] in WORDS else _flow(words)) if words else ""


def _comment(text: str) -> Iterator[str]:
    yield from (f"# {line}" for line in wrap(text, WIDTH - 2, break_long_words=False, break_on_hyphens=False))


def _scalar(text: str) -> str:
    """A word as YAML that reads back as that word."""
    written: str = _yaml.safe_dump(text, allow_unicode=True, width=10**9, default_flow_style=True)
    return written.removesuffix("\n").removesuffix("\n...")


def _flow(value: Any) -> str:
    written: str = _yaml.safe_dump(value, allow_unicode=True, width=10**9, default_flow_style=True, sort_keys=False)
    return written.removesuffix("\n")


def read_document(text: str, source: str) -> PlanDocument:
    """The plan that a text says.

    Args:
        source: the file, as messages call it.

    Raises:
        PlanError: the text is no YAML, or no plan; a key is unknown, is given twice or has a bad value. The message has
            the file and the line.
    """
    root = composed(text, partial(not_yaml, source))
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise errors.document_empty(source)
    found: dict[str, Any] = {}
    for key, line, node in _entries(root, source, "the plan"):
        if key not in _READERS:
            raise errors.document_key(source, line, key, tuple(_READERS))
        found[key] = _READERS[key](node, f"{source}:{line}", key)
    for key in ("mesh", "compute"):
        if key not in found:
            raise errors.document_lacks(source, key)
    found["model"] = found.get("model") or None
    return PlanDocument(**found, source=source)


def _entries(node: Any, source: str, what: str) -> Iterator[tuple[str, int, Any]]:
    """(key, line, value) of a mapping; a key given twice, which YAML itself lets pass, is an error."""
    seen: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in seen:
            raise errors.document_key_twice(f"{source}:{line}", name, what, seen[name])
        seen[name] = line
        yield name, line, value


def _word(node: Any, where: str, key: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise errors.document_value(where, key, "a section or a list", _EXPECTED[key])
    return str(node.value)


def _choice(node: Any, where: str, key: str) -> str:
    word = _word(node, where, key).lower()
    if word not in CHOICES:
        raise errors.document_choice(where, key, word, tuple(CHOICES))
    return word


def _sizes(node: Any, where: str, key: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, value in _rows(node, where, key).items():
        written = str(value.value) if isinstance(value, yaml.ScalarNode) else "a section or a list"
        if not written.isascii() or not written.isdigit() or int(written) < 1:
            raise errors.document_value(where, f"{key}.{name}", written, "a whole number of at least 1")
        found[name] = int(written)
    return found


def _words(node: Any, where: str, key: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in _rows(node, where, key).items():
        if not isinstance(value, yaml.ScalarNode) or not value.value:
            raise errors.document_value(where, f"{key}.{name}", "a section or a list", "such as 4x4x1 or 2 nodes")
        found[name] = str(value.value)
    return found


def _rules(node: Any, where: str, key: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in _rows(node, where, key).items():
        place = f"{where.rpartition(':')[0]}:{value.start_mark.line + 1}"
        if isinstance(value, yaml.ScalarNode) and value.value:
            found[name] = [part.strip() for part in str(value.value).split(",")]
        elif isinstance(value, yaml.SequenceNode) and all(isinstance(each, yaml.ScalarNode) for each in value.value):
            found[name] = [str(each.value) for each in value.value]
        else:
            raise errors.document_value(place, f"{key}.{name}", "a section", _LISTED[key])
    # Left out, a part (`gates[0:14]`) would be sharded as the axis that it was cut from.
    return {name: axes for name, axes in found.items() if axes or name.endswith("]")}


def _kinds(node: Any, where: str, key: str) -> list[str]:
    if isinstance(node, yaml.ScalarNode):
        return [part.strip() for part in str(node.value).split(",") if part.strip()]
    if not isinstance(node, yaml.SequenceNode) or not all(isinstance(each, yaml.ScalarNode) for each in node.value):
        raise errors.document_value(where, key, "a section", _EXPECTED[key])
    return [str(each.value) for each in node.value]


def _number(node: Any, where: str, key: str) -> int:
    word = _word(node, where, key)
    if not word.isascii() or not word.isdigit() or int(word) < 1:
        raise errors.document_value(where, key, word, _EXPECTED[key])
    return int(word)


def _rows(node: Any, where: str, key: str) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise errors.document_value(where, key, str(node.value), _EXPECTED[key])
    return {name: value for name, _, value in _entries(node, where.rpartition(":")[0], f"`{key}`")}


_LISTED = {
    "compute": "mesh axes, such as [data, model]",
    "storage": "mesh axes, such as [data, model]",
    "order": "names, such as [experts, batch]",
}
_EXPECTED = {
    "model": "the name of a model, such as gpt2_nano",
    "mesh": "a mesh, such as data=4,model=2",
    "hardware": "a chip, such as v5e",
    "sizes": "sizes by name, such as {mlp: 256}",
    "compute": "mesh axes by name, such as {batch: [data]}",
    "storage": "mesh axes by name, such as {embed: [data]}",
    "stored": "a list of parameters, gradients and optimizer",
    "order": "names by name, such as {mlp: [experts, batch]}",
    "remat": "none, full, or a list of names to keep, such as [mlp]",
    ATTENTION: "ring",
    "microbatches": "a whole number of at least 1",
    "moments": "float32 or bfloat16",
    "gradients": "float32 or bfloat16",
    "network": "devices by mesh axis, such as {data: 4x4x1, model: 1x1x4}",
    "padding": "sizes by name, such as {vocab: 50260}",
    "regather": "auto, true or false",
    "defer_sums": "auto, true or false",
    "hoist_gathers": "auto, true or false",
}
_READERS = {
    "model": _word,
    "mesh": _word,
    "hardware": _word,
    "sizes": _sizes,
    "compute": _rules,
    "storage": _rules,
    "stored": _kinds,
    "order": _rules,
    "remat": _kinds,
    ATTENTION: _word,
    "microbatches": _number,
    "moments": _word,
    "gradients": _word,
    "network": _words,
    "padding": _sizes,
    "regather": _choice,
    "defer_sums": _choice,
    "hoist_gathers": _choice,
}
