"""Predicted beside compiled: agreement, surprises, explanations."""

from __future__ import annotations

from typing import Any

from levanter.compiler.verify import CompiledCollective, Explanation, compare

MESH = {"data": 4, "model": 2}


def predicted(kind: str, axes: list[str], size: int, count: int, **extra: Any) -> dict[str, Any]:
    return {"kind": kind, "axis": "embed", "mesh_axes": axes, "bytes": size, "count": count, "seconds": 0.0, **extra}


def compiled(kind: str, axes: tuple[str, ...], size: int, count: int, known: bool = True) -> CompiledCollective:
    return CompiledCollective(kind, axes, size, count, "gpt2.py:9", "jit(step)/dot", "x", known)


def test_agreement() -> None:
    verify = compare(
        [predicted("all_gather", ["model", "data"], 64, 3), predicted("all_gather", ["model", "data"], 64, 1)],
        [compiled("all_gather", ("data", "model"), 64, 4)],
        MESH,
        predicted_peak=10,
        compiled_peak=12,
    )
    (row,) = verify["collectives"]
    assert row.pop("sizes") == [
        {
            "bytes": 64,
            "predicted_count": 4,
            "compiled_count": 4,
            "axes": ["embed"],
            "sources": ["gpt2.py:9"],
            "op_names": ["jit(step)/dot"],
        }
    ]
    assert row == {
        "kind": "all_gather",
        "mesh_axes": ["data", "model"],
        "predicted_count": 4,
        "compiled_count": 4,
        "predicted_bytes": 256,
        "compiled_bytes": 256,
    }
    assert verify["peak"] == {"predicted": 10, "compiled": 12}
    assert verify["surprises"] == [] and verify["explained"] == []


def test_equal_totals_of_different_sizes_are_surprises() -> None:
    verify = compare(
        [predicted("all_reduce", ["data"], 2048, 2, source="model.py:1")],
        [compiled("all_reduce", ("data",), 4096, 1)],
        MESH,
    )
    (row,) = verify["collectives"]
    assert row["predicted_bytes"] == row["compiled_bytes"] == 4096
    assert verify["surprises"] == [
        "all_reduce over data of 4.00 KiB (4,096 bytes): 0 a step predicted, 1 compiled "
        "(gpt2.py:9; op `jit(step)/dot`)",
        "all_reduce over data of 2.00 KiB (2,048 bytes) for axis `embed`: 2 a step predicted, 0 compiled (model.py:1)",
    ]


def test_a_surprise_off_the_mesh_in_an_unknown_loop() -> None:
    verify = compare([], [compiled("permute", (), 12, 1, known=False)], MESH)
    assert verify["surprises"] == [
        "permute over devices that are no mesh axis of 12 B: 0 a step predicted, 1 compiled "
        "(gpt2.py:9; op `jit(step)/dot`; in a loop of unknown trip count, counted as one trip)"
    ]


def test_a_known_reason_is_no_surprise() -> None:
    scalars = Explanation(lambda difference: difference.bytes <= 4, "scalars are reduced one mesh axis at a time")
    verify = compare(
        [],
        [compiled("all_reduce", ("data",), 4, 2), compiled("all_reduce", ("data",), 8, 1)],
        MESH,
        explanations=[scalars],
    )
    assert verify["explained"] == [
        {
            "what": "all_reduce over data of 4 B: 0 a step predicted, 2 compiled (gpt2.py:9; op `jit(step)/dot`)",
            "reason": "scalars are reduced one mesh axis at a time",
        }
    ]
    assert len(verify["surprises"]) == 1


def test_rows_are_in_mesh_order_whatever_the_input_order() -> None:
    found = [compiled("all_gather", ("model",), 8, 1), compiled("all_gather", ("data",), 8, 1)]
    assert [row["mesh_axes"] for row in compare([], found, MESH)["collectives"]] == [["data"], ["model"]]
    assert [row["mesh_axes"] for row in compare([], found)["collectives"]] == [["model"], ["data"]]
