"""How results are laid out when an op runs on shards: the rule of each kind, and what it refuses, word for word."""

import textwrap

import pytest

import ir
from ir import layout_errors
from ir.ops import OPS, op_of
from ir.ops.spread import Misplaced, layout_of
from ir.types import Dim


def ruled(text):
    """Whether the last node of a text is laid out as its types say; or what is wrong with that."""
    inputs, _, nodes = textwrap.dedent(text).strip().partition("\n\n")
    lines = [f"  %{i}: {type_}" for i, type_ in enumerate(inputs.splitlines())]
    result = [line.partition(":")[0] for line in nodes.splitlines() if line.startswith("%")][-1]
    graph = ir.parse("\n".join(["graph g {", " inputs", *lines, " -- forward --", nodes, " outputs", result, "}"]))
    node = graph.nodes[-1]
    try:
        spread = op_of(node).spread(node)
    except Misplaced as misplaced:
        return f"{misplaced.piece.part} {misplaced.piece.index}: {misplaced.what}"
    if spread is None:
        return None
    return all(each.agrees(layout_of(value.type)) for each, value in zip(spread, node.outputs, strict=True))


RIGHT = {
    "map": [
        """
        f32[batch=8@data, embed=4]
        f32[batch=8@data, embed=4]

        %2: f32[batch=8@data, embed=4] = map.mul(%0, %1)""",
        "f32[a=8] partial(data)\nf32[a=8] partial(data)\n\n%2: f32[a=8] partial(data) = map.sub(%0, %1)",
        "f32[a=8] partial(data)\nf32[a=8]\n\n%2: f32[a=8] partial(data) = map.div(%0, %1)",
        "f32[a=8] partial(data)\n\n%2: bf16[a=8] partial(data) = map.convert_element_type(%0)",
        "f32[a=8] partial(max: data)\n\n%2: f64[a=8] partial(max: data) = map.convert_element_type(%0)",
        "i32[a=8] partial(data)\n\n%2: f32[a=8] partial(data) = map.convert_element_type(%0)",
        "f32[a=8] partial(data)\n\n%2: f32[a=8] partial(data) = map.add(%0, 0.0:f32[])",
        "f32[a=8] partial(max: data)\nf32[a=8]\n\n%2: f32[a=8] partial(max: data) = map.max(%0, %1)",
        """
        bool[a=8]
        f32[a=8] partial(data)
        f32[a=8] partial(data)

        %3: f32[a=8] partial(data) = map.select_n(%0, %1, %2)""",
    ],
    "reduce": [
        "f32[a=8@data, b=4]\n\n%1: f32[b=4] partial(data) = reduce.sum(%0) over=[a=8]",
        "f32[a=8@data, b=4]\n\n%1: f32[b=4] partial(max: data) = reduce.max(%0) over=[a=8]",
        "f32[a=8@data, b=4] partial(model)\n\n%1: f32[b=4] partial(model, data) = reduce.sum(%0) over=[a=8]",
        "f32[a=8, b=4@data]\n\n%1: i32[b=4@data] = reduce.argmax(%0) over=[a=8]",
    ],
    "sum_in_order": [
        "f32[a=8@data, b=4]\n\n%1: f32[b=4] partial(in_order: data) = sum_in_order(%0) over=[a=8]",
        "f32[a=8@replica,data]\n\n%1: f32[] partial(in_order: replica, data) = sum_in_order(%0) over=[a=8]",
    ],
    "square_sum": [
        "f32[a=8@data, b=4]\n\n%1: f32[] partial(in_order: data) = square_sum(%0) along=[a=8] pieces=4",
        "f32[a=8, b=4]\n\n%1: f32[] = square_sum(%0) along=[] pieces=4",
    ],
    "each": [
        """
        f32[b=4]
        f32[shard=16@data, b=4]

        %2: f32[shard=16@data, b=4] = each(%0, %1) constants=1 over=[shard=16] trips=16 body {
            inputs
              %3: f32[b=4]
              %4: f32[b=4]
            %5: f32[b=4] = map.mul(%3, %4)
            outputs
              %5
          }""",
    ],
    "contract": [
        "f32[a=8@data, b=4]\nf32[b=4, c=2@model]\n\n%2: f32[a=8@data, c=2@model] = contract(%0, %1) over=[b=4]",
        "f32[a=8, b=4@data]\nf32[b=4@data, c=2]\n\n%2: f32[a=8, c=2] partial(data) = contract(%0, %1) over=[b=4]",
        "f32[a=8, b=4] partial(data)\nf32[b=4, c=2]\n\n%2: f32[a=8, c=2] partial(data) = contract(%0, %1) over=[b=4]",
        "f32[n=2@data, a=8, b=4]\nf32[n=2@data, b=4, c=2]\n\n%2: f32[n=2@data, a=8, c=2] = contract(%0, %1) over=[b=4]",
    ],
    "broadcast": [
        "f32[a=8@data]\n\n%1: f32[b=4@model, a=8@data] = broadcast(%0)",
        "f32[]\n\n%1: f32[b=4] partial(data) = broadcast(0.0:f32[])",
        "f32[] partial(data)\n\n%1: f32[b=4] partial(data) = broadcast(%0)",
    ],
    "rename": ["f32[a=8@data] partial(model)\n\n%1: f32[b=8@data] partial(model) = rename(%0) old=[a=8]"],
    "reshape": [
        "f32[a=8@data, b=4@model]\n\n%1: f32[b=4@model, a=8@data] = reshape.transpose(%0)",
        "f32[a=8@data, b=4]\n\n%1: f32[c=32@data] = reshape.reshape(%0) along=[a=8, b=4]",
        "f32[c=32@data]\n\n%1: f32[a=8@data, b=4] = reshape.reshape(%0) along=[c=32]",
        "f32[o=1, b=4@data]\n\n%1: f32[b=4@data] = reshape.squeeze(%0)",
    ],
    "slice": [
        "f32[a=8, b=4@data]\n\n%1: f32[a[0:2]=2, b=4@data] = slice.static(%0) along=[a=8]",
        """
        f32[a=8, b=4@data] partial(model)
        f32[p=2, b=4@data] partial(model)

        %2: f32[a=8, b=4@data] partial(model) = slice.update(%0, %1, 0:i32[], 0:i32[]) along=[a=8]""",
    ],
    "pad": [
        "f32[a=8, b=4@data] partial(model)\n\n%1: f32[p=9, b=4@data] partial(model) = pad(%0, 0.0:f32[]) along=[a=8]"
    ],
    "concat": ["f32[a=8, b=4@data]\nf32[a=8, b=4@data]\n\n%2: f32[c=16, b=4@data] = concat(%0, %1) along=[a=8]"],
    "gather": [
        """
        f32[v=8@model, e=4]
        i32[b=2@data, _=1]

        %2: f32[b=2@data, e=4] partial(model) = gather.take(%0, %1) along=[v=8]""",
        "f32[v=8, e=4] partial(x)\ni32[b=2, _=1]\n\n%2: f32[b=2, e=4] partial(x) = gather.take(%0, %1) along=[v=8]",
    ],
    "scatter": [
        """
        f32[v=8, e=4]
        i32[b=2@data, _=1]
        f32[b=2@data, e=4]

        %3: f32[v=8, e=4] partial(data) = scatter.add(%0, %1, %2) along=[v=8]""",
        """
        f32[v=8@model, e=4]
        i32[b=2, _=1]
        f32[b=2, e=4]

        %3: f32[v=8@model, e=4] = scatter.set(%0, %1, %2) along=[v=8]""",
    ],
    "iota": ["f32[]\n\n%1: i32[a=8@data] = iota() along=[a=8]"],
    "constant": ["f32[]\n\n%1: f32[a=8@data] = constant()"],
    "cumulate": [
        "f32[a=8, b=4@data] partial(x)\n\n%1: f32[a=8, b=4@data] partial(x) = cumulate.cumsum(%0) along=[a=8]"
    ],
    "sort": ["f32[a=8, b=4@data]\n\n%1: f32[a=8, b=4@data] = sort.sort(%0) along=[a=8]"],
    "linalg": ["f32[n=2@data, i=4, j=4]\n\n%1: f32[n=2@data, i=4, j=4] = linalg.cholesky(%0) along=[i=4, j=4]"],
    "random": ["key<fry>[]\n\n%1: u32[a=8@data] = random.bits(%0)"],
    "attention": [
        """
        f32[b=2@data, q=4@model, s=8]
        f32[b=2@data, k=4, s=8]
        f32[b=2@data, k=4, s=8]

        %3: f32[b=2@data, q=4@model, s=8],
        %4: f32[b=2@data, q=4@model] = attention(%0, %1, %2) along=[k=4] over=[s=8]""",
        """
        f32[b=2@data, q=4@model, s=8]
        f32[b=2@data, q=4@model, s=8]
        f32[b=2@data, q=4@model, s=8]

        %3: f32[b=2@data, q=4@model, s=8],
        %4: f32[b=2@data, q=4@model] = attention(%0, %1, %2) along=[q=4] over=[s=8] ring=[q=4] onward {
          inputs
            %5: f32[b=2@data, q=4@model, s=8]
            %6: f32[b=2@data, q=4@model, s=8]
          -- forward --
          %7: f32[b=2@data, q=4@model, s=8] = ring_permute(%5) axis=[q] bytes=64 mesh=[model]
          %8: f32[b=2@data, q=4@model, s=8] = ring_permute(%6) axis=[q] bytes=64 mesh=[model]
          outputs
            %7
            %8
        }""",
    ],
    "reshard": ["f32[a=8@data]\n\n%1: f32[a=8@data,model] = reshard(%0) axis=[a] bytes=8 mesh=[model]"],
    "all_gather": ["f32[a=8@data,model]\n\n%1: f32[a=8@data] = all_gather(%0) axis=[a] bytes=8 mesh=[model]"],
    "all_to_all": [
        "f32[a=8@data,model, b=4]\n\n%1: f32[a=8@data, b=4@model] = all_to_all(%0) axis=[b] bytes=8 mesh=[model]"
    ],
    "all_reduce": [
        "f32[a=8] partial(data, model)\n\n%1: f32[a=8] partial(model) = all_reduce(%0) axis=[a] bytes=8 mesh=[data]"
    ],
    "reduce_scatter": [
        "f32[a=8] partial(data)\n\n%1: f32[a=8@model,data] = reduce_scatter(%0) axis=[a] bytes=8 mesh=[data]"
    ],
    "permute": ["f32[a=8@data,model]\n\n%1: f32[a=8@model,data] = permute(%0) axis=[a] bytes=8 mesh=[data, model]"],
    "ring_permute": ["f32[a=8@data]\n\n%1: f32[a=8@data] = ring_permute(%0) axis=[a] bytes=8 mesh=[data]"],
    "delay": ["f32[a=8@data] partial(model)\nf32[]\n\n%2: f32[a=8@data] partial(model) = delay(%0, %1)"],
    "loop": [
        """
        f32[e=4] partial(data)
        f32[t=3, e=4] partial(data)

        %2: f32[e=4] partial(data) = loop.scan(%0, %1) carries=1 constants=0 over=[t=3] trips=3 body {
          inputs
            %3: f32[e=4] partial(data)
            %4: f32[e=4] partial(data)
          -- forward --
          %5: f32[e=4] partial(data) = map.add(%3, %4)
          outputs
            %5
        }"""
    ],
    "branch": [
        """
        i32[]
        f32[e=4@data]

        %2: f32[e=4@data] = branch.cond(%0, %1) body {
          inputs
            %3: f32[e=4@data]
          outputs
            %3
        } other {
          inputs
            %4: f32[e=4@data]
          outputs
            %4
        }"""
    ],
    "call": [
        """
        f32[e=4@data]

        %2: f32[e=4@data] = call.checkpoint(%0) body {
          inputs
            %3: f32[e=4@data]
          outputs
            %3
        }"""
    ],
}

ASSUMED = {
    "manual": """
        f32[e=4]

        %1: f32[e=4] = manual.shard_map(%0) mesh=[data] body {
          inputs
            %3: f32[e=4]
          outputs
            %3
        }""",
    "collective": "f32[e=4]\n\n%1: f32[e=4] = collective.psum(%0) mesh=[data]",
    "opaque": "f32[e=4]\n\n%1: f32[e=4] = opaque.ffi_call(%0)",
}
"""Kinds without a rule."""


def test_every_kind_is_here():
    assert set(RIGHT) | set(ASSUMED) == set(OPS)


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in RIGHT.items() for text in texts])
def test_a_rule(kind, text):
    assert ruled(text) is True


@pytest.mark.parametrize("kind", ASSUMED)
def test_a_kind_without_a_rule_says_so(kind):
    assert ruled(ASSUMED[kind]) is None


@pytest.mark.parametrize("text", [text for texts in RIGHT.values() for text in texts])
def test_another_layout_of_the_result_is_not_what_the_rule_gives(text):
    """One mesh axis more that the result is partial over."""
    if "broadcast(0.0" in text:  # zeros are partial as they please
        return
    head, inputs = textwrap.dedent(text).strip().partition("\n\n")[::2]
    first, rest = inputs.split(" = ", 1)
    first = first[: first.index(" partial(")] if " partial(" in first else f"{first} partial(elsewhere)"
    assert ruled(f"{head}\n\n{first} = {rest}") is not True


_CAST = ", and map.convert_element_type of the parts does not add up to map.convert_element_type of the sum"
WRONG = [
    *(
        (
            f"{old}[a=8] partial({pending})\n\n%1: {new}[a=8] partial({pending}) = map.convert_element_type(%0)",
            f"operand 0: it is partial over data{by}: all_reduce{or_scatter} it over data first",
        )
        for old, new, pending, by, or_scatter in (
            ("f32", "i32", "data", _CAST, " or reduce_scatter"),
            ("i8", "i32", "data", _CAST, " or reduce_scatter"),
            ("i32", "i8", "max: data", " by max, and map.convert_element_type does not commute with max", ""),
            ("u8", "f32", "data", _CAST, " or reduce_scatter"),
        )
    ),
    (
        "f32[a=8] partial(data)\n\n%1: f32[a=8] partial(data) = map.tanh(%0)",
        "operand 0: it is partial over data, and map.tanh of the parts does not add up to map.tanh of the sum: "
        "all_reduce or reduce_scatter it over data first",
    ),
    (
        "f32[a=8] partial(data)\nf32[a=8]\n\n%2: f32[a=8] partial(data) = map.add(%0, %1)",
        "operand 1: it is not partial over data, as %0 is: each device would bring all of it, and the pending sum over "
        "data would count it once a device; make that sum first",
    ),
    (
        "f32[a=8] partial(data)\n\n%2: f32[a=8] partial(data) = map.mul(%0, %0)",
        "operand 1: it is partial over data, and so is %0: a product of sums is not the sum of the products; make one "
        "of the two sums first",
    ),
    (
        "f32[a=8] partial(max: data)\n\n%2: f32[a=8] partial(max: data) = map.neg(%0)",
        "operand 0: it is partial over data by max, and map.neg does not commute with max: all_reduce it over data "
        "first",
    ),
    (
        "f32[a=8@data]\nf32[a=8]\n\n%2: f32[a=8@data] = map.mul(%0, %1)",
        "operand 1: `a=8` is replicated, but the dim that it meets, `a=8` is sharded over data: the shards of a device "
        "are not of the same places; bring one of the two to the layout of the other first",
    ),
    (
        "f32[a=8@data, b=4]\nf32[b=4, c=2@data]\n\n%2: f32[a=8@data, c=2] = contract(%0, %1) over=[b=4]",
        "operand 1: data shards `c=2` here and `a=8` of another operand: a device would combine only some of the "
        "pairs; all_gather one of the two over it first",
    ),
    (
        "f32[a=8, b=4] partial(data)\nf32[b=4, c=2@data]\n\n%2: f32[a=8, c=2@data] = contract(%0, %1) over=[b=4]",
        "operand 0: it is partial over data, which shards `c=2` of another operand: a device would combine its part of "
        "the one only with its shard of the other; make the pending reduction over data first",
    ),
    (
        "f32[a=8@data]\n\n%1: f32[a=8@data] = cumulate.cumsum(%0) along=[a=8]",
        "operand 0: `a=8` is sharded over data, but cumulate.cumsum needs all of it on each device: all_gather it over "
        "data first",
    ),
    (
        "f32[a=8, b=4@data]\n\n%1: f32[c=32@data] = reshape.reshape(%0) along=[a=8, b=4]",
        "operand 0: `b=4` is sharded over data and stands behind another dim that it is merged with: the shards of a "
        "device would not be one shard of the merged dim; all_gather it over data first",
    ),
    (
        "f32[a=8]\n\n%1: f32[a=8] = all_reduce(%0) axis=[a] bytes=8 mesh=[data]",
        "operand 0: it is not partial: the reduction over data would count what every device has already once a "
        "device; leave the collective out",
    ),
    (
        "f32[a=8] partial(model)\n\n%1: f32[a=8] = all_reduce(%0) axis=[a] bytes=8 mesh=[data]",
        "operand 0: it is partial over model only: the reduction over data would count what every device has already "
        "once a device; reduce over model instead",
    ),
    (
        "f32[a=8@data,model]\n\n%1: f32[a=8@model] = all_gather(%0) axis=[a] bytes=8 mesh=[data]",
        "operand 0: `a=8` is sharded over data, model: only the innermost of its mesh axes can be taken from it, in "
        "their order, and data are not",
    ),
    (
        "f32[a=8]\n\n%1: f32[a=8] = all_gather(%0) axis=[a] bytes=8 mesh=[data]",
        "operand 0: it is replicated: no dim is sharded over data, so there is nothing to gather",
    ),
    (
        "f32[a=8, b=4@data]\n\n%1: f32[a=8@data, b=4@data] = reshard(%0) axis=[a] bytes=8 mesh=[data]",
        "op 0: data shards `b=4` already: a mesh axis is used at most once in a value",
    ),
    (
        "f32[a=8] partial(data)\n\n%1: f32[a=8@data] = reshard(%0) axis=[a] bytes=8 mesh=[data]",
        "op 0: data is one that the operand is partial over already: a mesh axis is used at most once in a value",
    ),
    (
        "f32[a=8, b=4]\n\n%1: f32[a=8, b=4] = reshard(%0) axis=[a] bytes=8 mesh=[data]",
        "result 0: 0 dims gain mesh axes where exactly one does",
    ),
    (
        "f32[a=8] partial(max: data)\n\n%1: f32[a=8@data] = reduce_scatter(%0) axis=[a] bytes=8 mesh=[data]",
        "operand 0: it is partial by max, and a reduce_scatter adds: all_reduce it, then reshard",
    ),
    (
        "f32[a=8@data, b=8]\n\n%1: f32[a=8, b=8@data] = permute(%0) axis=[a] bytes=8 mesh=[data]",
        "result 0: it is sharded a@data and would be sharded b@data: devices can exchange shards of one shape only",
    ),
    (
        "f32[a=8] partial(data)\nf32[a=8] partial(max: data)\n\n%2: f32[a=8] partial(data) = map.add(%0, %1)",
        "operand 1: it is partial by max, and what it meets by sum: make one of the two reductions first",
    ),
    (
        """
        f32[a=8] partial(max: data)
        f32[a=8] partial(min: data)

        %2: f32[c=16] partial(max: data) = concat(%0, %1) along=[a=8]""",
        "operand 1: it is partial by min, and what it meets by max: make one of the two reductions first",
    ),
    (
        RIGHT["branch"][0].replace("%4: f32[e=4@data]", "%4: f32[e=4]"),
        "operand 1: %1 is sharded e@data outside and replicated inside: bring it to the layout of the inside first",
    ),
    (
        RIGHT["branch"][0].replace("i32[]", "i32[] partial(data)"),
        "operand 0: what decides is partial over data: each device would decide for itself; it must be replicated, and "
        "no reduction may be pending",
    ),
    (
        RIGHT["loop"][0].replace("f32[e=4] partial(data) = map.add", "f32[e=4] = map.add"),
        "result 0: a carry is partial over data when a trip starts and replicated when it ends: both must be laid out "
        "alike",
    ),
    (
        """
        i32[]
        f32[e=4@data]
        f32[e=4]

        %3: f32[e=4@data] = branch.cond(%0, %1, %2) body {
          inputs
            %4: f32[e=4@data]
            %5: f32[e=4]
          outputs
            %4
        } other {
          inputs
            %6: f32[e=4@data]
            %7: f32[e=4]
          outputs
            %7
        }""",
        "result 0: one body gives sharded e@data, another replicated: all must give the same layout",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_a_rule_refuses(text, message):
    assert ruled(text) == message


def test_what_the_prover_says_of_types():
    dim = Dim("a", 6, ("data",))
    assert layout_errors.does_not_divide(dim, 4) == "`a=6` is sharded over data, 4 devices, which do not divide it"
    assert layout_errors.unknown_axis("x", ("data", "model")) == "x is no axis of the mesh, which has data, model"
    said = "the result is said to be replicated, but on the shards of its operands the operation makes "
    assert layout_errors.other_layout("replicated", "partial over data", ("data",)) == (
        f"{said}partial over data: all_reduce or reduce_scatter it over data before it is used so"
    )
    assert layout_errors.other_layout("replicated", "sharded a@data", ()) == (
        f"{said}sharded a@data: say so in its type, and bring it to another layout behind"
    )
