"""Which names of haliax are public, where they are imported from, and their docstrings.

Every module belongs to a section, in the order of the pages, or is machinery, or only re-exports. A name is
public if a module that people import from defines it, or imports it `as` itself. What the source says is read from the
source, so that the outcome does not depend on what decorators and import hooks make of it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType
from typing import Any, TypeVar

import haliax

SECTIONS: dict[str, tuple[str, ...]] = {
    "Arrays and axes": ("core.array", "axis", "core.axis_of", "ops.align", "errors.base"),
    "Types and annotations": ("haxtyping", "core.annotations", "typing"),
    "Making arrays": ("ops.create", "random"),
    "Computing": ("ops.elementwise", "ops.reduce", "ops.sorting", "ops.searching", "ops.polynomial", "ops.fourier"),
    "Contraction": ("ops.contract", "ops.einops", "ops.dot_general"),
    "Shapes": ("ops.shape", "ops.padding", "core.order"),
    "Indexing and updates": ("ops.indexing", "core.dslice", "ops.updating", "ref"),
    "Loops and maps": ("hof.loops", "hof.checkpointing", "hof.gradients"),
    "Layouts over devices": ("partitioning.mapping", "partitioning.layout", "partitioning.jit"),
    "Neural networks": (
        *("nn.linear", "nn.moe_linear", "nn.embedding", "nn.normalization", "nn.dropout", "nn.mlp", "nn.conv"),
        *("nn.pool", "nn.scan", "nn.attention.attend", "nn.attention.attention_mask", "nn.attention.dot_product"),
        *("nn.attention.masks", "nn.activations", "nn.softmax", "nn.loss", "nn.mup"),
        "quantization",
    ),
    "Modules and trees": ("field", "state_dict", "tree_util", "jax_utils", "util", "debug"),
    "Lifting functions of one's own": ("wrap",),
}
# Where things live, and from where nobody imports: what is public of these is exported by another module.
HOMES = tuple(
    name
    for names in SECTIONS.values()
    for name in names
    if name.partition(".")[0] in ("core", "ops", "hof", "partitioning", "errors") or name.startswith("nn.attention.")
)
# The machinery: compiled calls, how arrays print, how names reach a trace, how methods and the stub are made, and the
# wordings of errors.
INTERNAL = (
    *("_compat", "compat", "_src", "_src.dot", "_src.einsum", "_src.rearrange", "_src.scan", "_src.state_dict"),
    *("_src.util", "core.as_made", "core.explicit", "core.in_order", "core.merged", "core.printing", "core.sizes"),
    *("core.staging", "core.stale", "nn._inputs"),
    *("nn.attention", "nn.attention.backends", "nn.attention.blockwise", "nn.attention.layout", "nn.attention.library"),
    *(
        "nn.attention.primitive",
        "nn.attention.reference",
        "nn.attention.ring",
        "nn.attention.spec",
        "nn.attention.splash",
    ),
    *("hof.slices", "ops.eager", "ops.foreign", "ops.gathering", "ops.methods", "ops.namesakes", "ops.stubs"),
    "version",
    *("errors.axes", "errors.foreign", "errors.indexing", "errors.kinds", "errors.partitioning", "errors.structure"),
)

_FIRST = ("haliax", "haliax.nn", "haliax.partitioning")


@dataclass(frozen=True)
class Member:
    """A method or property of a class."""

    name: str
    value: Any
    doc: str

    @property
    def function(self) -> Any:
        """The function below a property, class method or static method."""
        value = self.value.fget if isinstance(self.value, property) else self.value
        return inspect.unwrap(getattr(value, "__func__", value))


@dataclass(frozen=True)
class Item:
    """A public name of a module: what it is, and how the source defines it."""

    module: ModuleType
    name: str
    value: Any
    node: ast.stmt
    attribute_doc: str | None

    @property
    def is_written_out(self) -> bool:
        """Whether it has a `def` or `class` of its own."""
        return isinstance(self.node, ast.FunctionDef | ast.ClassDef)

    @cached_property
    def doc(self) -> str:
        """The docstring; of a constant or type, the string below it."""
        if isinstance(self.node, ast.FunctionDef | ast.ClassDef):
            return ast.get_docstring(self.node) or ""
        if self.attribute_doc is not None:
            return inspect.cleandoc(self.attribute_doc)
        is_made = inspect.isfunction(self.value) or inspect.isclass(self.value)
        return (inspect.getdoc(self.value) or "") if is_made else ""

    def members(self) -> list[Member]:
        """The public methods and properties that the class defines, in order; `__call__` last.

        One without a docstring that overrides another means the same.
        """
        body = self.node.body if isinstance(self.node, ast.ClassDef) else []
        own = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
        names = [name for name in own if not name.startswith("_")] + ["__call__"] * ("__call__" in own)
        found = [
            Member(name, vars(self.value)[name], ast.get_docstring(own[name]) or "")
            for name in names
            if name in vars(self.value)
        ]
        return [member for member in found if member.doc or not self._overrides(member.name)]

    def _overrides(self, name: str) -> bool:
        return any(hasattr(base, name) for base in self.value.__bases__)

    @cached_property
    def path(self) -> str | None:
        """The shortest path that one imports it from; None if it is not public."""
        public = [*_FIRST, *(name for name in module_names() if _short(name) not in HOMES and name not in _FIRST)]
        for name in public:
            if exports(importlib.import_module(name)).get(self.name) is self.value:
                return f"{name}.{self.name}"
        for name in public:
            for other, value in exports(importlib.import_module(name)).items():
                if value is self.value:
                    return f"{name}.{other}"
        return f"haliax.NamedArray.{self.name}" if getattr(haliax.NamedArray, self.name, None) is self.value else None


def _is_own(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith("haliax")


def _short(name: str) -> str:
    return name.removeprefix("haliax.")


@cache
def module_names() -> tuple[str, ...]:
    """Every module of haliax but the machinery, in the order of the pages; those in no section go last."""
    found = [info.name for info in pkgutil.walk_packages(haliax.__path__, "haliax.")]
    placed = [f"haliax.{name}" for names in SECTIONS.values() for name in names if f"haliax.{name}" in found]
    return (*placed, *(name for name in sorted(found) if name not in placed and _short(name) not in INTERNAL))


@cache
def _body(module: ModuleType) -> list[ast.stmt]:
    """The statements of a module; of `if TYPE_CHECKING: … else: …` those that run."""
    statements: list[ast.stmt] = []
    for node in ast.parse(inspect.getsource(module)).body:
        is_for_checkers = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        statements += node.orelse if is_for_checkers else [node]
    return statements


@cache
def exports(module: ModuleType) -> dict[str, Any]:
    """What the module defines, and what it imports of haliax with an `as`, the mark of a deliberate export."""
    names = [name for node in _body(module) for name in _defined(node)]
    for node in _body(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "haliax":
            names += [alias.asname for alias in node.names if alias.asname is not None]
    return {name: getattr(module, name) for name in names if not name.startswith("_")}


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


def items(module: ModuleType) -> list[Item]:
    """The public names that the module itself defines, in order."""
    found: dict[str, Item] = {}
    for node, after in zip(_body(module), [*_body(module)[1:], None], strict=True):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        doc = after.value.value if is_text and not isinstance(node, ast.FunctionDef | ast.ClassDef) else None
        for name in _defined(node):
            if not name.startswith("_"):
                found[name] = Item(module, name, getattr(module, name), node, doc)
    return [item for item in found.values() if _is_public(item)]


def _is_public(item: Item) -> bool:
    """Of the errors only the types are public; a type variable never is."""
    if item.module.__name__.startswith("haliax.errors") and not isinstance(item.value, type):
        return False
    return item.path is not None and not isinstance(item.value, TypeVar)


def every_item() -> list[Item]:
    """All that the pages have an entry or a row for."""
    return [item for name in module_names() for item in items(importlib.import_module(name))]
