"""The reader of HLO text: instructions, shapes, tables of source lines."""

from __future__ import annotations

import pytest

from levanter.compiler.verify.hlo_text import Shape, parse, parse_instruction, split
from levanter.errors import WorkFailed


def test_an_instruction_may_stand_on_several_lines() -> None:
    text = """HloModule jit_step

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4] parameter(0)
  %kernel = f32[4] custom-call(%x), custom_call_target="tpu", frontend_attributes={kernel_metadata={
"text":"{\\"block\\": 128}"
}}, metadata={op_name="pallas_call"}
  ROOT %y = f32[4] negate(%kernel)
}
"""
    computation = parse(text).computations["main"]
    assert list(computation.instructions) == ["x", "kernel", "y"]
    assert computation.instructions["kernel"].op_name == "pallas_call"


def test_an_instruction() -> None:
    line = (
        "  ROOT %all-reduce.1 = (f32[64,128]{1,0:T(8,128)}, /*index=1*/bf16[]) all-reduce(%dot.1, f32[] %x), "
        "channel_id=7, replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}, to_apply=%add, "
        'metadata={op_name="jit(f)/b,p->e, \\"x\\"/dot" stack_frame_id=18}'
    )
    instruction = parse_instruction(line)
    assert instruction.name == "all-reduce.1"
    assert instruction.is_root and instruction.is_tuple
    assert instruction.opcode == "all-reduce"
    assert instruction.shapes == (Shape("f32", (64, 128)), Shape("bf16", ()))
    assert instruction.operands == ("dot.1", "x")
    assert instruction.attributes["replica_groups"] == "mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}"
    assert instruction.attributes["to_apply"] == "%add"
    assert instruction.op_name == 'jit(f)/b,p->e, \\"x\\"/dot'


def test_constants_have_no_operands() -> None:
    instruction = parse_instruction('  %c = s32[2,2]{1,0} constant({ {1, 2}, {3, 4} }), metadata={op_name="x"}')
    assert instruction.operands == ()
    assert instruction.argument == "{ {1, 2}, {3, 4} }"


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (Shape("f32", (2, 3)), 24),
        (Shape("bf16", (5,)), 10),
        (Shape("pred", (7,)), 7),
        (Shape("s4", (3,)), 2),
        (Shape("f8e4m3fn", (4,)), 4),
        (Shape("c64", ()), 8),
        (Shape("u64", (0, 9)), 0),
        (Shape("token", ()), 0),
    ],
)
def test_bytes_of_a_shape(shape: Shape, size: int) -> None:
    assert shape.bytes == size


def test_split_respects_brackets_and_strings() -> None:
    assert split('a={1,2}, b="x,(y", c=[3,4]<=[12]') == ["a={1,2}", 'b="x,(y"', "c=[3,4]<=[12]"]
    assert split("") == []


MODULE = """HloModule jit_f, is_scheduled=true, num_partitions=4

FileNames
1 "/home/me/train.py"
2 "/home/me/model.py"

FunctionNames
1 "<module>"

FileLocations
1 {file_name_id=1 function_name_id=1 line=7 end_line=7 column=0 end_column=0}
2 {file_name_id=2 function_name_id=1 line=31 end_line=31 column=0 end_column=0}

StackFrames
1 {file_location_id=1 parent_frame_id=%d}
2 {file_location_id=2 parent_frame_id=%d}


ENTRY %%main (p: f32[4]) -> f32[4] {
  %%p = f32[4]{0} parameter(0)
  %%q = f32[4]{0} copy(%%p), metadata={op_name="q" stack_frame_id=2}
  ROOT %%r = f32[4]{0} copy(%%q), metadata={op_name="r" source_file="/home/me/old.py" source_line=3}
}
"""


@pytest.mark.parametrize("parents", [(1, 2), (0, 1)], ids=["counted from one", "counted from zero"])
def test_a_module_with_its_source_lines(parents: tuple[int, int]) -> None:
    module = parse(MODULE % parents)
    main = module.computations[module.entry]
    assert module.num_partitions == 4
    assert [user.name for user in main.users["q"]] == ["r"]
    assert main.root.name == "r"
    assert module.frames(main.instructions["q"]) == [("/home/me/model.py", 31), ("/home/me/train.py", 7)]
    assert module.frames(main.instructions["r"]) == [("/home/me/old.py", 3)]
    assert module.frames(main.instructions["p"]) == []


ELEMENTS = """HloModule jit_f

ENTRY %%main (p: (f32[4], (s32[2], token[]))) -> f32[4] {
  %%p = (f32[4]{0}, /*index=1*/(s32[2]{0}, token[])) parameter(0)
%s}
"""
LONG_FORM = """
  %p#0 = f32[4]{0} get-tuple-element(%p), index=0
  %p#1 = (s32[2]{0}, token[]) get-tuple-element(%p), index=1
  %p#1#0 = s32[2]{0} get-tuple-element(%p#1), index=0
  ROOT %r = f32[4]{0} custom-call(%p#0, %p#1#0)
"""
SHORT_FORM = """
  ROOT %r = f32[4]{0} custom-call(%p#0, %p#1#0)
"""


def test_elements_of_tuples_are_the_same_written_short_and_long() -> None:
    """Since jaxlib 0.12 an operand `%t#1` stands for a `get-tuple-element` that is not written out."""
    long, short = parse(ELEMENTS % LONG_FORM), parse(ELEMENTS % SHORT_FORM)
    assert short == long
    main = short.computations["main"]
    assert list(main.instructions) == ["p", "p#0", "p#1", "p#1#0", "r"]
    assert [user.name for user in main.users["p"]] == ["p#0", "p#1"]
    assert main.instructions["p#1#0"].shapes == (Shape("s32", (2,)),)
    assert main.instructions["p#1"].is_tuple and main.instructions["p#1#0"].attributes["index"] == "0"


@pytest.mark.parametrize("operand", ["p#2", "p#x", "q#0", "p#0#0"])
def test_an_element_that_is_not_there_is_refused(operand: str) -> None:
    with pytest.raises(WorkFailed, match=f"`%{operand}` is not an element of a tuple above it"):
        parse(ELEMENTS % f"  ROOT %r = f32[4]{{0}} copy(%{operand})\n")


def test_what_is_not_hlo_is_refused() -> None:
    with pytest.raises(WorkFailed) as caught:
        parse("not a module")
    assert str(caught.value) == (
        "cannot read the compiled program (no ENTRY computation, in `not a module`): this version of XLA writes it "
        "differently; `levanter compile` without --verify still works"
    )
    with pytest.raises(WorkFailed, match="an open bracket"):
        parse_instruction("  %a = f32[] add(%b, %c")
