"""What the TPU compiler is known to do with collectives is no surprise; what looks like it and is not, is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from levanter.compiler.verify import CompiledCollective, compare
from levanter.compiler.verify.hlo import collectives
from levanter.compiler.verify.tpu_habits import HALVED, JOINED, PADDED, PASSED, REDUCED, SUMMED, settled

MESH = {"data": 4, "model": 2}


def predicted(kind: str, size: int, count: int) -> dict[str, Any]:
    return {"kind": kind, "axis": "embed", "mesh_axes": ["data"], "bytes": size, "count": count, "seconds": 0.0}


def compiled(kind: str, size: int, count: int, dtype: str = "f32") -> CompiledCollective:
    return replace(CompiledCollective(kind, ("data",), size, count, None, "", "x"), dtype=dtype)


def verified(before: list[dict[str, Any]], after: list[CompiledCollective]) -> tuple[list[str], int]:
    """The reasons of what is explained, and how many surprises there are."""
    verify = compare(before, after, MESH, habits=settled)
    assert all("dtypes" not in size for row in verify["collectives"] for size in row["sizes"])
    return [item["reason"] for item in verify["explained"]], len(verify["surprises"])


def test_joined_and_taken_out_of_a_loop() -> None:
    assert verified([predicted("all_reduce", 256, 4)], [compiled("all_reduce", 1024, 1)]) == ([JOINED], 0)
    twice = [compiled("all_reduce", 1024, 1), compiled("all_reduce", 1024, 1)]
    assert verified([predicted("all_reduce", 256, 4)], twice) == ([], 2)


def test_reduced_whole() -> None:
    before = [predicted("all_gather", 64, 2), predicted("reduce_scatter", 512, 1), predicted("all_reduce", 4, 1)]
    after = [compiled("all_reduce", 64, 2), compiled("all_reduce", 516, 1)]
    assert verified(before, after) == ([REDUCED] * 3, 0)
    assert verified(before, after[:1])[1] > 0
    assert verified(before[:2], [compiled("all_reduce", 64, 2), compiled("all_reduce", 1024, 1)])[1] > 0


def test_gathered_in_bf16() -> None:
    before = [predicted("all_gather", 4096, 16)]
    assert verified(before, [compiled("all_gather", 2048, 16, "bf16")]) == ([HALVED], 0)
    assert verified(before, [compiled("all_gather", 2048, 15, "bf16")])[1] > 0
    assert verified(before, [compiled("all_gather", 2048, 16, "f32")])[1] > 0
    assert verified(before, [compiled("all_gather", 2048, 20, "bf16")])[1] > 0
    two = [predicted("all_gather", 4096, 16), predicted("all_gather", 2048, 16)]
    halves = [compiled("all_gather", 2048, 16, "bf16"), compiled("all_gather", 1024, 16, "bf16")]
    assert verified(two, halves) == ([HALVED], 0)
    assert verified(two, [halves[0], compiled("all_gather", 2048, 16)]) == ([HALVED], 0)


def test_keys_go_round_in_bf16_and_their_gradients_do_not() -> None:
    before = [predicted("permute", 4096, 14)]
    after = [compiled("permute", 2048, 6, "bf16"), compiled("permute", 4096, 8)]
    assert verified(before, after) == ([PASSED], 0)
    assert verified(before, [after[0], compiled("permute", 4096, 7)])[1] > 0


def test_added_before_it_is_reduced() -> None:
    before = [predicted("all_reduce", 1024, 12), predicted("reduce_scatter", 64, 1)]
    assert verified(before[:1], [compiled("all_reduce", 1024, 8)]) == ([SUMMED], 0)
    assert verified(before, [compiled("all_reduce", 1024, 8), compiled("all_reduce", 64, 1)]) == ([REDUCED] * 2, 0)
    assert verified(before[:1], [])[1] > 0
    assert verified(before, [compiled("all_reduce", 1024, 8)])[1] > 0


def test_what_is_explained_says_how_much() -> None:
    verify = compare([predicted("all_reduce", 256, 4)], [compiled("all_reduce", 1024, 1)], MESH, habits=settled)
    (item,) = verify["explained"]
    assert item["what"] == "all_reduce over data: 4 of 1.00 KiB predicted, 1 of 1.00 KiB compiled, in all"


CHAINED = """HloModule jit_step, num_partitions=4

%f1 (a: f32[8]) -> f32[32] {
  %a = f32[8] parameter(0)
  ROOT %g1 = f32[32] all-gather(%a), channel_id=1, replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="0"}
}

%f2 (b: f32[8]) -> f32[32] {
  %b = f32[8] parameter(0)
  ROOT %g2 = f32[32] all-gather(%b), channel_id=1, replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="0"}
}

ENTRY %main (x: f32[8]) -> f32[32] {
  %x = f32[8] parameter(0)
  %start = f32[32] fusion(%x), kind=kCustom, calls=%f1
  %done = f32[32] fusion(%x), kind=kCustom, calls=%f2
  ROOT %other = f32[32] all-gather(%x), channel_id=2, replica_groups={{0,1,2,3}}, dimensions={0}
}
"""


def test_a_collective_inside_of_several_fusions_is_one() -> None:
    found = collectives(CHAINED, {"data": 4})
    assert [(each.instruction, each.bytes, each.dtype) for each in found] == [("g1", 128, "f32"), ("other", 128, "f32")]


def test_nor_is_it_another_one_where_its_pieces_are_in_a_loop() -> None:
    looped = CHAINED.replace("ENTRY", LOOP + "ENTRY").replace(
        "%done = f32[32] fusion(%x), kind=kCustom, calls=%f2",
        "%done = f32[8] while(%x), condition=%condition, body=%body",
    )
    assert [each.instruction for each in collectives(looped, {"data": 4})] == ["g1", "other"]
    begun = looped.replace("  %start = f32[32] fusion(%x), kind=kCustom, calls=%f1\n", "")
    assert [each.instruction for each in collectives(begun, {"data": 4})] == ["g2", "other"]


LOOP = """%condition (c: f32[8]) -> pred[] {
  %c = f32[8] parameter(0)
  ROOT %true = pred[] constant(true)
}

%body (d: f32[8]) -> f32[8] {
  %d = f32[8] parameter(0)
  %next = f32[32] fusion(%d), kind=kCustom, calls=%f2
  ROOT %same = f32[8] copy(%d)
}

"""


def test_reduce_scattered_in_padded_pieces() -> None:
    before = [predicted("reduce_scatter", 4096, 8)]
    after = [compiled("reduce_scatter", 4096, 4), compiled("reduce_scatter", 4160, 4)]
    shifted = [compiled("permute", 48, 4)]
    assert verified(before, after + shifted) == ([PADDED] * 2, 0)
    assert verified(before, after)[1] > 0
    assert verified(before, [*after, compiled("permute", 48, 3)])[1] > 0
    assert verified(before, [*after, compiled("permute", 80, 4)])[1] > 0
    assert verified(before, [compiled("reduce_scatter", 4160, 4), *shifted])[1] > 0
