"""A text read back as a graph: recursive descent, one method per rule of the grammar in docs/ir.md.

Op kinds and functions are any identifiers: what they mean is not the text's business. A value's type stands at its
definition only, so values are looked up among those defined above in the same body.
"""

from collections.abc import Callable
from typing import Any, TypeVar, get_args

from ir import errors
from ir.errors import Spot
from ir.graph import Attr, Constant, Graph, Node, Operand, Phase, Source, Value
from ir.limits import DEEPEST, MOST_DIMS
from ir.text.cursor import Cursor
from ir.text.tokens import ATTRIBUTE_WORDS
from ir.types import REDUCTIONS, SUM, Dim, TensorType, long_dtype

_PHASES: tuple[Phase, ...] = get_args(Phase)
_SECTIONS = ("inputs", "outputs", "carried")

_Scope = dict[int, TensorType]
_T = TypeVar("_T")


def parse(text: str) -> Graph:
    """The graph that `print_graph` wrote.

    Raises:
        ParseError: the text is no graph; the message has the line, the column, what was expected, and the fix.
    """
    return _Parser(text).whole()


class _Parser(Cursor):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.definitions: dict[int, Spot] = {}
        self.depth = 0

    # --- graphs ---------------------------------------------------------------------------------------------------

    def whole(self) -> Graph:
        self.keyword("graph", "graph")
        name = self.name("the name of the graph", "graph")
        self.mark("{", "graph")
        self.line_end("graph")
        graph = self.graph(name, "forward")
        if self.scanner.peek().kind == "newline":
            self.scanner.take()
        if self.scanner.peek().kind != "end":
            self.fail("the end of the text", "graph")
        return graph

    def graph(self, name: str, phase: Phase) -> Graph:
        """From the line after `{` to `}`. Nodes before the first header are of the given phase."""
        scope: _Scope = {}
        inputs, input_paths = self.section("inputs", lambda: self.graph_input(scope), self.at_input)
        nodes: list[Node] = []
        while not self.at("}") and not self.at_section("outputs") and not self.at_section("carried"):
            if self.at("--"):
                phase = self.phase()
            else:
                nodes.append(self.node(scope, phase))
        outputs, output_paths = self.section("outputs", lambda: self.operand(scope), self.at_output)
        carried = self.carried() if self.at_section("carried") else ()
        self.mark("}", "graph")
        return Graph(name, inputs, tuple(nodes), outputs, input_paths, output_paths, carried)

    def section(
        self, keyword: str, item: Callable[[], _T], at_item: Callable[[], bool]
    ) -> tuple[tuple[_T, ...], tuple[str, ...]]:
        """Lines of an item and, mostly, a path."""
        items: list[_T] = []
        paths: list[str] = []
        if self.at_section(keyword):
            self.scanner.take()
            self.line_end("graph")
            while at_item():
                items.append(item())
                token = self.scanner.peek()
                if token.kind not in ("newline", "end"):
                    if len(paths) < len(items) - 1:
                        raise errors.path_after_gap(self.spot(token))
                    paths.append(self.path())
                self.line_end("input" if keyword == "inputs" else "output")
        return tuple(items), tuple(paths)

    def at_input(self) -> bool:
        """Whether a line that starts like a definition is an input, or the first node."""
        if self.scanner.peek().kind != "value":
            return False
        start = self.scanner.position
        self.typed_value()
        is_input = not self.at("=") and not self.at(",")
        self.scanner.position = start
        return is_input

    def at_output(self) -> bool:
        return not self.at_close() and not self.at_section("carried")

    def graph_input(self, scope: _Scope) -> Value:
        value, spot = self.typed_value()
        self.define(value, spot, scope)
        return value

    def path(self) -> str:
        return self.word() if self.scanner.peek().kind == "string" else self.scanner.take_path()

    def carried(self) -> tuple[tuple[int, int], ...]:
        self.scanner.take()
        self.line_end("graph")
        pairs: list[tuple[int, int]] = []
        while not self.at_close():
            start = self.keyword("inputs", "carried").start
            inputs = self.positions()
            self.mark("->", "carried")
            self.keyword("outputs", "carried")
            outputs = self.positions()
            if len(inputs) != len(outputs):
                spot = Spot(self.scanner.text, start, self.scanner.position)
                raise errors.unequal_ranges(spot, len(inputs), len(outputs))
            pairs += zip(inputs, outputs, strict=True)
            self.line_end("carried")
        return tuple(pairs)

    def positions(self) -> range:
        first = self.integer("a position", "carried")
        if not self.at(".."):
            return range(first, first + 1)
        self.scanner.take()
        return range(first, self.integer("a position", "carried") + 1)

    def phase(self) -> Phase:
        self.mark("--", "phase")
        token = self.scanner.peek()
        name = self.name("a phase", "phase")
        for phase in _PHASES:
            if phase == name:
                self.mark("--", "phase")
                self.line_end("phase")
                return phase
        raise errors.unknown_phase(self.spot(token), name, _PHASES)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def node(self, scope: _Scope, phase: Phase) -> Node:
        results: list[tuple[Value, Spot]] = []
        if self.scanner.peek().kind == "value":
            results = self.separated(self.typed_value)
            self.mark("=", "node")
        kind = self.op_word("a node, `outputs` or `}`" if not results else "an operation")
        fn = ""
        if self.at("."):
            self.scanner.take()
            fn = self.name("the function", "node")
        if not self.at("("):
            self.fail("`(`", "node")
        inputs = self.listing("(", ")", lambda: self.operand(scope), "operand")
        attrs = self.attributes()
        source = self.source()
        bodies: list[Graph] = []
        while self.at_word():
            opening = self.scanner.peek()
            name = self.name("the name of a body", "body")
            self.mark("{", "body")
            source = source or self.source()
            if self.depth == DEEPEST:
                raise errors.nested_too_deep(self.spot(opening), DEEPEST)
            self.line_end("body")
            self.depth += 1
            bodies.append(self.graph(name, phase))
            self.depth -= 1
        self.line_end("node")
        for value, spot in results:
            self.define(value, spot, scope)
        outputs = tuple(value for value, _ in results)
        return Node(kind, fn, tuple(inputs), outputs, attrs, tuple(bodies), phase, source)

    def op_word(self, expected: str) -> str:
        """An op kind. A word on a line of its own is a section, misspelt or in the wrong place."""
        token = self.scanner.peek()
        if self.at_section(token.text):
            raise errors.misplaced_section(self.spot(token), token.text, _SECTIONS)
        return self.name(expected, "node")

    def operand(self, scope: _Scope) -> Operand:
        """`%3`, `%3:f32[]` where nothing above defines %3, or a constant `1.0:f32[]`."""
        token = self.scanner.peek()
        if token.kind not in ("value", "number", "name", "string"):
            self.fail("an operand", "operand")
        text = self.word() if token.kind == "string" else self.scanner.take().text
        if token.kind != "value":
            self.mark(":", "operand")
            return Constant(text, self.tensor_type())
        number = self.number(token, text[1:])
        if self.at(":"):
            self.scanner.take()
            return Value(number, self.tensor_type())
        known = scope.get(number)
        if known is None:
            raise errors.undefined_value(self.spot(token), text)
        return Value(number, known)

    def typed_value(self) -> tuple[Value, Spot]:
        token = self.scanner.peek()
        if token.kind != "value":
            self.fail("a value", "node")
        self.scanner.take()
        self.mark(":", "node")
        return Value(self.number(token, token.text[1:]), self.tensor_type()), self.spot(token)

    def define(self, value: Value, spot: Spot, scope: _Scope) -> None:
        if value.id in self.definitions:
            raise errors.defined_twice(spot, str(value), self.definitions[value.id])
        self.definitions[value.id] = spot
        scope[value.id] = value.type

    def attributes(self) -> dict[str, Attr]:
        attrs: dict[str, Attr] = {}
        while self.at_word():
            start, token = self.scanner.position, self.scanner.peek()
            key = self.word()
            if self.at("{"):  # it was the name of a body
                self.scanner.position = start
                break
            if key in attrs:
                raise errors.attribute_twice(self.spot(token), key)
            self.mark("=", "attribute")
            attrs[key] = self.attribute()
        return attrs

    def attribute(self) -> Any:
        if self.at("["):
            return tuple(self.listing("[", "]", self.counted(self.element), "attribute"))
        return self.scalar()

    def element(self) -> Dim | str | int | float:
        if not self.at_word():
            return self.scalar()
        start = self.scanner.position
        self.word()
        is_dim = self.at("=")
        self.scanner.position = start
        return self.dim() if is_dim else self.scalar()

    def scalar(self) -> str | int | float:
        token = self.scanner.peek()
        if token.kind == "string":
            return self.word()
        if token.kind == "name":
            return ATTRIBUTE_WORDS.get(self.scanner.take().text, token.text)
        if token.kind != "number" or token.text[-1] in "j)":
            self.fail("the value of an attribute", "attribute")
        self.scanner.take()
        return self.number(token, token.text, None) if token.text.lstrip("+-").isdecimal() else float(token.text)

    def source(self) -> Source | None:
        if not self.at("#"):
            return None
        start = self.scanner.take().start
        if self.scanner.peek().kind == "string":
            file = self.word()
            self.mark(":", "source")
            return Source(file, self.integer("a line number", "source"))
        file, _, line = self.scanner.take_line().rpartition(":")
        if not file or not line.removeprefix("-").isdecimal():
            self.scanner.position = start
            self.fail("a source line", "source")
        return Source(file, int(line))

    # --- types ----------------------------------------------------------------------------------------------------

    def tensor_type(self) -> TensorType:
        dtype = self.dtype()
        dims = self.listing("[", "]", self.counted(self.dim), "type")
        partial, reduction = self.pending()
        return TensorType(dtype, tuple(dims), partial, reduction)

    def pending(self) -> tuple[tuple[str, ...], str]:
        """`partial(data, model)`, a sum over mesh axes, or `partial(max: data)`."""
        start, reduction = self.scanner.position, SUM

        def axis() -> str:
            nonlocal reduction
            found = self.name("a mesh axis", "type")
            if self.at(":") and found in REDUCTIONS:
                self.scanner.take()
                reduction, found = found, self.name("a mesh axis", "type")
            return found

        if self.scanner.peek().text == "partial":
            self.scanner.take()
            if self.at("("):
                return tuple(self.listing("(", ")", axis, "type")), reduction
            self.scanner.position = start  # it was the start of a path
        return (), SUM

    def dtype(self) -> str:
        is_literal = self.scanner.peek().kind == "string"
        dtype = self.name("a type", "type")
        if is_literal:
            return dtype
        if self.at("<"):
            self.scanner.take()
            dtype += f"<{self.name('the kind of key', 'type')}>"
            self.mark(">", "type")
        return long_dtype(dtype)

    def counted(self, item: Callable[[], _T]) -> Callable[[], _T]:
        """Reads an item of a list, and refuses one dim too many."""
        dims = 0

        def read() -> _T:
            nonlocal dims
            token, value = self.scanner.peek(), item()
            dims += isinstance(value, Dim)
            if dims > MOST_DIMS:
                raise errors.too_many_dims(self.spot(token), MOST_DIMS)
            return value

        return read

    def dim(self) -> Dim:
        is_unnamed = self.scanner.peek().text == "_"
        name = self.name("a dim", "dim")
        self.mark("=", "dim")
        size = self.integer("a size", "dim")
        mesh: list[str] = []
        if self.at("@"):
            self.scanner.take()
            mesh.append(self.name("a mesh axis", "dim"))
            while self.at(",") and (axis := self.another_mesh_axis()) is not None:
                mesh.append(axis)
        return Dim(None if is_unnamed else name, size, tuple(mesh))

    def another_mesh_axis(self) -> str | None:
        """What follows a comma: a mesh axis, or, where `=` comes behind it, the next dim, which is left unread."""
        start = self.scanner.position
        self.scanner.take()
        axis = self.word() if self.at_word() else None
        if axis is None or self.at("="):
            self.scanner.position = start
            return None
        return axis
