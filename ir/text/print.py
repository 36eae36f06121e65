"""A graph as text: one line per value, names instead of dimension numbers, the user's source line at the right margin.

    graph step {
      inputs
        %0: f32[batch=32, embed=64]                     x
      -- forward --
      %1: f32[batch=32] = reduce.sum(%0) over=[embed=64]                                    # model.py:12
      outputs
        %1                                              loss
    }

Columns are fixed and nothing depends on a neighbouring line, so that a change of one node changes one line of a diff.
`ir.text.parse` reads it back. The grammar is in docs/ir.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ir import errors
from ir.graph import Attr, Constant, Graph, Node, Operand, Phase
from ir.limits import DEEPEST, is_too_deep
from ir.text.tokens import ATTRIBUTE_WORDS, dtype_text, file_text, name_text, path_text, quote, scalar_text
from ir.types import Dim, TensorType, long_dtype, short_dtype

PATH_COLUMN = 56
SOURCE_COLUMN = 88
OPERANDS_PER_LINE = 10

_Scope = dict[int, TensorType]


def print_graph(graph: Graph) -> str:
    """The text of a graph, with a newline at its end; `parse` gives the graph back.

    Raises:
        ValueError: a graph has more paths than values.
        TypeError: an attribute is of no type that `ir.graph.Attr` lists.
        MalformedGraph: bodies are nested too deep (see `ir.limits`).
    """
    if is_too_deep(graph):
        raise errors.graph_too_deep(graph.name, DEEPEST)
    lines = [f"graph {name_text(graph.name)} {{", *_graph(graph, None, "  "), "}"]
    return "\n".join(lines) + "\n"


def print_node(node: Node) -> str:
    """The text of one node without its bodies, for messages. Operands show their number only."""
    scope = {value.id: value.type for value in node.value_inputs}
    return "\n".join(_node(replace(node, bodies=()), scope, ""))


def print_type(type_: TensorType) -> str:
    """`f32[batch=32@data, _=3] partial(model)`."""
    short = short_dtype(type_.dtype)
    # A dtype that is itself called like a short form is quoted: quoted dtypes are never expanded.
    dtype = dtype_text(short) if long_dtype(short) == type_.dtype else quote(type_.dtype)
    partial = f" partial({type_.pending_text(', '.join(map(name_text, type_.partial)))})" if type_.partial else ""
    return f"{dtype}[{', '.join(map(print_dim, type_.dims))}]{partial}"


def print_attributes(node: Node) -> str:
    """The attributes of a node, each behind a blank: ` over=[embed=64]`."""
    return "".join(f" {print_attribute(node, key)}" for key in sorted(node.attrs))


def print_attribute(node: Node, key: str) -> str:
    """`over=[embed=64]`."""
    return f"{name_text(key)}={_attr(print_op(node), key, node.attrs[key])}"


def print_dim(dim: Dim) -> str:
    """`batch=32@data`, or `_=32` without a name."""
    name = "_" if dim.name is None else name_text(dim.name)
    return f"{name}={dim.size}" + (f"@{','.join(map(name_text, dim.mesh))}" if dim.mesh else "")


def print_op(node: Node) -> str:
    """The kind and, behind a dot, the member of the kind."""
    return name_text(node.kind) + (f".{name_text(node.fn)}" if node.fn else "")


def _graph(graph: Graph, phase: Phase | None, indent: str) -> Iterator[str]:
    """The lines between the braces. `phase` is the one that needs no header: that of the node around."""
    if graph.inputs or graph.input_paths:
        yield f"{indent}inputs"
    definitions = [f"{value}: {print_type(value.type)}" for value in graph.inputs]
    yield from _with_paths(graph.name, "inputs", definitions, graph.input_paths, indent)
    scope = {value.id: value.type for value in graph.inputs}
    for node in graph.nodes:
        if node.phase != phase:
            phase = node.phase
            yield f"{indent}-- {phase} --"
        yield from _node(node, scope, indent)
        scope.update({value.id: value.type for value in node.outputs})
    if graph.outputs or graph.output_paths:
        yield f"{indent}outputs"
    results = [_operand(operand, scope) for operand in graph.outputs]
    yield from _with_paths(graph.name, "outputs", results, graph.output_paths, indent)
    if graph.carried:
        yield f"{indent}carried"
    for (first_in, first_out), (last_in, last_out) in _runs(graph.carried):
        yield f"{indent}  inputs {_range(first_in, last_in)} -> outputs {_range(first_out, last_out)}"


def _with_paths(graph: str, section: str, values: Sequence[str], paths: Sequence[str], indent: str) -> Iterator[str]:
    if len(paths) > len(values):
        raise errors.too_many_paths(graph, section, len(paths), len(values))
    for position, value in enumerate(values):
        path = path_text(paths[position]) if position < len(paths) else ""
        yield _at_column(f"{indent}  {value}", path, PATH_COLUMN)


def _node(node: Node, scope: _Scope, indent: str) -> Iterator[str]:
    """All outputs but the last have a line each; the last one shares its line with the operation."""
    definitions = [f"{value}: {print_type(value.type)}" for value in node.outputs]
    for definition in definitions[:-1]:
        yield f"{indent}{definition},"
    op = print_op(node)
    line = indent + (f"{definitions[-1]} = {op}(" if definitions else f"{op}(")
    operands = [_operand(operand, scope) for operand in node.inputs]
    if len(operands) > OPERANDS_PER_LINE:
        yield line
        for start in range(0, len(operands), OPERANDS_PER_LINE):
            row = ", ".join(operands[start : start + OPERANDS_PER_LINE])
            yield f"{indent}  {row}" + ("," if start + OPERANDS_PER_LINE < len(operands) else "")
        line = indent
    else:
        line += ", ".join(operands)
    line += ")" + print_attributes(node)
    source = f"# {file_text(node.source.file)}:{node.source.line}" if node.source else ""
    if not node.bodies:
        yield _at_column(line, source, SOURCE_COLUMN)
        return
    yield _at_column(f"{line} {name_text(node.bodies[0].name)} {{", source, SOURCE_COLUMN)
    for position, body in enumerate(node.bodies):
        if position:
            yield f"{indent}}} {name_text(body.name)} {{"
        yield from _graph(body, node.phase, indent + "  ")
    yield f"{indent}}}"


def _operand(operand: Operand, scope: _Scope) -> str:
    """A value by its number; with its type where no line above defines it so, as in a graph cut out of another."""
    if isinstance(operand, Constant):
        return f"{scalar_text(operand.text)}:{print_type(operand.type)}"
    return str(operand) if scope.get(operand.id) == operand.type else f"{operand}:{print_type(operand.type)}"


def _attr(op: str, key: str, value: Attr) -> str:
    if not isinstance(value, tuple):
        return _scalar(op, key, value)
    # Either all are dims or none is: after `a=2@x,` a bare name is one more mesh axis.
    if len({isinstance(element, Dim) for element in value}) > 1:
        raise errors.unprintable_attribute(op, key, value)
    return f"[{', '.join(print_dim(e) if isinstance(e, Dim) else _scalar(op, key, e) for e in value)}]"


def _scalar(op: str, key: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str):
        return quote(value) if value in ATTRIBUTE_WORDS else name_text(value)
    raise errors.unprintable_attribute(op, key, value)


def _at_column(line: str, text: str, column: int) -> str:
    """`text` at the column, or after two spaces where the line reaches over it."""
    return f"{line:<{column - 2}}  {text}" if text else line


def _runs(pairs: Sequence[tuple[int, int]]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs in which both sides count up one by one, as (first pair, last pair)."""
    runs: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for pair in pairs:
        if runs and runs[-1][1] == (pair[0] - 1, pair[1] - 1):
            runs[-1] = (runs[-1][0], pair)
        else:
            runs.append((pair, pair))
    return runs


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}..{last}"


def _text(self: Graph) -> str:
    return print_graph(self)


# A graph does not import its printer, which imports the graph; `ir` imports both.
Graph.__str__ = _text
