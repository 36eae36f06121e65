"""Which system's rules a file has, and what they say.

Levanter          `axis_resources`, `parameter_axis_resources`, `fsdp_axis`, `tensor_parallel_axes`, `batch_axis`,
                  `compute_axis_mapping`, `parameter_axis_mapping`; also within `trainer`, `mesh`; or a plain
                  dictionary of names and mesh axes
MaxText, Flax     `logical_axis_rules`, or a list of pairs
Hugging Face      `base_model_tp_plan`, `tp_plan`, or a dictionary of module patterns and styles
PartitionSpec     `partition_specs`, or a dictionary of parameters' paths and lists
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from passes.foreign import errors
from passes.foreign.marked import Marked, read
from passes.foreign.names import ACTIVATION, kind_of, known_elsewhere, ours
from passes.foreign.rules import ALL, Array, ArrayKind, ForeignRules, Kind, Rule

LEVANTER_DATA, LEVANTER_MODEL, LEVANTER_BATCH = "data", "model", ("replica_dcn", "replica", "data")
"""The mesh axes that Levanter's shorter fields mean."""
_MAPPINGS: Mapping[str, Kind] = {
    "axis_resources": "both",
    "axis_mapping": "both",
    "shared_mapping": "both",
    "compute_axis_mapping": "activations",
    "compute_mapping": "activations",
    "parameter_axis_resources": "parameters",
    "parameter_axis_mapping": "parameters",
    "param_mapping": "parameters",
}
_SHORT = ("batch_axis", "batch_axis_name", "fsdp_axis", "tensor_parallel_axes")
_PAIRS = ("logical_axis_rules", "LOGICAL_AXIS_RULES", "rules", "RULES", "axis_rules", "DEFAULT_RULES")
_TP_PLANS = ("base_model_tp_plan", "tp_plan", "_tp_plan")
OUTPUT_STYLES = frozenset(
    (
        "colwise",
        "colwise_rep",
        "colwise_gather_output",
        "local_colwise",
        "packed_colwise",
        "local_packed_colwise",
    )
)
INPUT_STYLES = frozenset(
    (
        "rowwise",
        "rowwise_rep",
        "rowwise_split_input",
        "local_rowwise",
        "packed_rowwise",
        "local_packed_rowwise",
    )
)
FIRST_STYLES = frozenset(
    (
        "embedding_rowwise",
        "vocab_parallel_rowwise",
        "vocab_parallel_embedding",
    )
)
EXPERT_STYLES = frozenset(("grouped_gemm",))
_REDUCED_STYLES = frozenset(("all_reduce",))
REPLICATED_STYLES = _REDUCED_STYLES | frozenset(
    (
        "replicate",
        "replicated",
        "gather",
        "local",
        "sequence_parallel",
        "ep_router",
        "moe_tp_experts",
        "replicated_with_grad_allreduce",
        "moe_identity_expert",
        "mla_kv_a_proj",
    )
)
_STYLES = OUTPUT_STYLES | INPUT_STYLES | FIRST_STYLES | EXPERT_STYLES | REPLICATED_STYLES
_TP_AXES = ("tp", "tensor", "model")


@dataclass(frozen=True)
class Module:
    """One tensor of a Hugging Face file: the module that has it, our parameter, and our names of its output and input
    dims; `dims` are all of them, in order. A table of embeddings has its rows first, a linear layer its outputs."""

    path: str
    parameter: str
    dims: tuple[tuple[str, ...], ...]
    table: bool = False


@dataclass(frozen=True)
class Subject:
    """The step that rules are held against: sizes of its axes and of the mesh axes, its parameters, the tensors that a
    Hugging Face file of it has, and names of theirs that the user has given."""

    sizes: Mapping[str, int]
    mesh: Mapping[str, int]
    parameters: Sequence[Array]
    modules: Sequence[Module] = ()
    own_names: Mapping[str, str] | None = None


def read_rules(text: str, source: str, subject: Subject) -> ForeignRules:
    """The rules of a file.

    Raises:
        PlanError: it cannot be parsed, or has no rules of a known kind.
    """
    root = read(text, source)
    if (plan := _found(root, _TP_PLANS)) is not None or _is_tp_plan(root):
        return _transformers(plan or root, source, subject)
    if (specs := _found(root, ("partition_specs",))) is not None or _is_specs(root, subject):
        return _partition_specs(specs or root, source, subject)
    if (pairs := _pairs(root)) is not None:
        return _flax(root, pairs, source, subject)
    return _levanter(root, source, subject)


def _found(root: Marked, keys: Sequence[str]) -> Marked | None:
    """The value of one of some keys, at most three dictionaries deep."""
    level = [root]
    for _ in range(3):
        for each in level:
            for key in keys:
                if key in each.entries():
                    return each.entries()[key]
        level = [value for each in level for value in each.entries().values()]
    return None


def _pairs(root: Marked) -> Marked | None:
    found = _found(root, _PAIRS)
    if found is None and root.items():
        found = root
    if found is None:
        lists = [each for each in root.entries().values() if each.items() and all(map(_is_pair, each.items()))]
        found = lists[0] if lists else None
    return found


def _is_pair(each: Marked) -> bool:
    parts = each.items()
    return len(parts) == 2 and isinstance(parts[0].value, str) and parts[1].words() is not None


# --- Flax and MaxText -----------------------------------------------------------------------------------------------


def _flax(root: Marked, pairs: Marked, source: str, subject: Subject) -> ForeignRules:
    if not pairs.items():
        raise errors.no_rules(source)
    rules: list[Rule] = []
    for each in pairs.items():
        parts = each.items()
        axes = parts[1].words() if len(parts) == 2 else None
        if not _is_pair(each) or axes is None:
            raise errors.no_pair(f"{source}:{each.line}")
        rules.append(Rule(str(parts[0].value), axes, f"{source}:{each.line}"))
    told_apart = any(rule.name.startswith(ACTIVATION) for rule in rules)
    rules = [replace(rule, about=kind_of(rule.name, told_apart)) for rule in rules]
    known = _found(root, ("mesh_axes",))
    return _named(ForeignRules("flax", source, tuple(rules), frozenset(known.words() or () if known else ())), subject)


def _named(found: ForeignRules, subject: Subject) -> ForeignRules:
    """The rules with our names; those without one apart."""
    here: list[Rule] = []
    unknown: list[Rule] = []
    idle: list[str] = []
    for rule in found.rules:
        names, arrays = ours(rule.name, subject.sizes, subject.own_names or {})
        if any(name not in subject.sizes for name in names):
            raise errors.own_name(rule.name, names[0], tuple(subject.sizes))
        if names:
            here.append(replace(rule, names=names, arrays=arrays))
        elif known_elsewhere(rule.name):
            idle.append(rule.name)
        else:
            unknown.append(rule)
    # Where a file has a name of its own for the axis in some parameters, the plain name is not about these.
    special = {(rule.names, rule.arrays) for rule in here if rule.arrays != ALL and rule.about != "activations"}
    narrowed = [replace(rule, arrays=_rest(rule, special)) for rule in here]
    return replace(found, rules=tuple(narrowed), unknown=tuple(unknown), idle=tuple(dict.fromkeys(idle)))


def _rest(rule: Rule, special: set[tuple[tuple[str, ...], frozenset[ArrayKind]]]) -> frozenset[ArrayKind]:
    others = [arrays for names, arrays in special if names == rule.names and arrays != rule.arrays]
    return rule.arrays.difference(*others) if rule.arrays == ALL and rule.about != "activations" else rule.arrays


# --- Levanter -------------------------------------------------------------------------------------------------------


def _levanter(root: Marked, source: str, subject: Subject) -> ForeignRules:
    sections = [root, *_sections(root)]
    rules = [rule for kind in ("both", "activations") for rule in _mapped(sections, kind, source)]
    short = list(_short(sections, source, subject))
    rules += [rule for rule in short if rule.about != "parameters"]
    rules += _mapped(sections, "parameters", source)
    rules += [rule for rule in short if rule.about == "parameters"]
    plain = root.entries()
    if not rules and plain and all(value.words() is not None for value in plain.values()):
        rules = [Rule(name, value.words() or (), f"{source}:{value.line}") for name, value in plain.items()]
        axes = {axis for rule in rules for axis in rule.axes}
        if not axes & {*subject.mesh, *LEVANTER_BATCH, LEVANTER_MODEL}:
            rules = []
    if not rules:
        raise errors.no_rules(source)
    return _named(ForeignRules("levanter", source, tuple(rules)), subject)


def _sections(root: Marked) -> Iterator[Marked]:
    for key in ("trainer", "mesh"):
        if key in root.entries():
            inner = root.entries()[key]
            yield inner
            yield from _sections(inner)


def _mapped(sections: Sequence[Marked], kind: str, source: str) -> list[Rule]:
    found: list[Rule] = []
    for key, about in _MAPPINGS.items():
        given = [each.entries()[key] for each in sections if about == kind and key in each.entries()]
        for each in given:
            for name, value in each.entries().items():
                axes, where = value.words(), f"{source}:{value.line}"
                if axes is None:
                    raise errors.no_axes(where, f"{key}.{name}")
                found.append(Rule(name, axes, where, about))
    return found


def _short(sections: Sequence[Marked], source: str, subject: Subject) -> Iterator[Rule]:
    """The rules of the shorter fields, each with its meaning in published Levanter."""
    entries = {key: each.entries()[key] for each in sections for key in _SHORT if key in each.entries()}
    if not entries and not any(key in each.entries() for each in sections for key in _MAPPINGS):
        return
    batch = tuple(axis for axis in LEVANTER_BATCH if axis in subject.mesh) or (LEVANTER_DATA,)
    meanings: Mapping[str, tuple[tuple[str, ...], Kind]] = {
        "tensor_parallel_axes": ((LEVANTER_MODEL,), "both"),
        "batch_axis_name": (batch, "both"),
        "batch_axis": (batch, "both"),
        "fsdp_axis": ((LEVANTER_DATA,), "parameters"),
    }
    for key, (axes, kind) in meanings.items():
        if key in entries:
            names = entries[key].words()
            if names is None:
                raise errors.no_axes(f"{source}:{entries[key].line}", key)
            yield from (Rule(name, axes, f"{source}:{entries[key].line}", kind) for name in names)
    if not {"batch_axis", "batch_axis_name"} & entries.keys() and entries.keys() & {
        "fsdp_axis",
        "tensor_parallel_axes",
    }:
        yield Rule("batch", batch, f"{source}: batch_axis, by default")


# --- Hugging Face ---------------------------------------------------------------------------------------------------


def _is_tp_plan(root: Marked) -> bool:
    values = [each.value for each in root.entries().values()]
    return (
        bool(values) and all(isinstance(value, str) for value in values) and any(value in _STYLES for value in values)
    )


def _transformers(plan: Marked, source: str, subject: Subject) -> ForeignRules:
    axis = next((each for each in _TP_AXES if each in subject.mesh), list(subject.mesh)[-1])
    rules: list[Rule] = []
    unknown: list[Rule] = []
    for pattern, value in plan.entries().items():
        where, style = f"{source}:{value.line}", str(value.value)
        if style not in _STYLES:
            raise errors.tp_style(where, pattern, style, sorted(_STYLES))
        named = Rule(pattern, (axis,), where)
        matched = [each for each in subject.modules if _matches(pattern, each.path)]
        inside = style in REPLICATED_STYLES and any(_holds(pattern, each.path) for each in subject.modules)
        if not matched and not inside:
            unknown.append(named)
        for each in matched if style not in REPLICATED_STYLES else ():
            if names := _dim(style, each):
                rules.append(replace(named, names=names[:1], paths=frozenset((each.parameter,))))
        if style in REPLICATED_STYLES and matched:
            said = frozenset(each.parameter for each in matched)
            names = tuple(dict.fromkeys(name for each in matched for dim in each.dims for name in dim))
            rules.append(replace(named, axes=(), names=names, paths=said))
    if not rules and not unknown:
        raise errors.no_rules(source)
    return ForeignRules("transformers", source, tuple(rules), unknown=tuple(unknown))


def _matches(pattern: str, path: str) -> bool:
    """Whether a pattern names a module, or the tensor itself; `*` is one part, prefixes of the model may be missing."""
    parts = pattern.split(".")
    for candidate in (path, f"{path}.weight"):
        whole = candidate.split(".")
        if len(parts) <= len(whole) and all(map(fnmatchcase, whole[-len(parts) :], parts)):
            return True
    return False


def _holds(pattern: str, path: str) -> bool:
    """Whether a pattern names a module that has this one in it."""
    parts = path.split(".")
    return any(_matches(pattern, ".".join(parts[:end])) for end in range(1, len(parts)))


def _dim(style: str, module: Module) -> tuple[str, ...]:
    """Our names of the dim that a style shards, the outermost first."""
    if style in EXPERT_STYLES:
        return ("experts",)
    first = style in FIRST_STYLES or (style in OUTPUT_STYLES) != module.table
    return next(iter(module.dims[:1] if first else module.dims[1:2]), ())


# --- PartitionSpecs -------------------------------------------------------------------------------------------------


def _is_specs(root: Marked, subject: Subject) -> bool:
    paths = {each.path for each in subject.parameters}
    return bool(root.entries().keys() & paths) and any(each.items() for each in root.entries().values())


SECTIONS: Mapping[str, Kind] = {"at_rest": "parameters", "in_use": "activations", "activations": "activations"}
"""Parameters at rest and in use, by path, and single axes of activations, by name."""


def _partition_specs(specs: Marked, source: str, subject: Subject) -> ForeignRules:
    sections = {key: value for key, value in specs.entries().items() if key in SECTIONS} or {"at_rest": specs}
    arrays = {each.path: each for each in subject.parameters if each.path is not None}
    rules: list[Rule] = []
    unknown: list[Rule] = []
    for section, listed in sections.items():
        for path, spec in listed.entries().items():
            where = f"{source}:{spec.line}"
            # Of a single axis the mesh axes may stand there alone.
            alone = section == "activations" and isinstance(spec.value, str) and " " not in path
            dims = [each.words() for each in ([spec] if alone else spec.items())]
            if any(each is None for each in dims) or (isinstance(spec.value, str | dict) and not alone):
                raise errors.no_spec(where, path)
            names = _names_of(path, section, arrays, subject)
            if names is None:
                unknown.append(Rule(path, (), where))
                continue
            if len(dims) > len(names):
                raise errors.spec_too_long(where, path, len(dims), names)
            whole = (*dims, *((),) * (len(names) - len(dims)))
            paths = frozenset((path,)) if section != "activations" else None
            rules += [
                Rule(path, axes or (), where, SECTIONS[section], (name,), paths=paths)
                for name, axes in zip(names, whole, strict=True)
            ]
    if not rules and not unknown:
        raise errors.no_rules(source)
    return ForeignRules("partition-specs", source, tuple(rules), unknown=tuple(unknown))


def _names_of(path: str, section: str, arrays: Mapping[str, Array], subject: Subject) -> tuple[str, ...] | None:
    if section == "activations":
        names = tuple(path.split())
        return names if all(name in subject.sizes for name in names) else None
    return tuple(arrays[path].sizes) if path in arrays else None
